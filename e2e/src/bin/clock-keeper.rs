//! Moves this computer's wall clock by so many milliseconds for each line of its input, and puts it back at the end of it,
//! whatever ends: see `elevon_e2e::wall`.

fn main() -> anyhow::Result<()> {
    elevon_e2e::wall::keeper()
}
