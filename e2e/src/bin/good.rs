//! Says that the right program ran, and with which rights.

fn main() {
    println!("{}", elevon_e2e::probe::rights("good"));
}
