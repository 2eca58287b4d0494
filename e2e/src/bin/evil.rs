//! Says that a program ran that nobody approved, and with which rights: no test may ever see it with uid 0 or with a
//! capability.

fn main() {
    println!("{}", elevon_e2e::probe::rights("evil"));
}
