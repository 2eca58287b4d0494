//! Every target survives its committed corpus, and every input that ever broke one.

use std::fs;
use std::path::Path;

#[test]
fn every_target_survives_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in elevon_fuzz::TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus.join(name)).expect("a target has a corpus").collect();
        assert!(inputs.len() >= 2, "the corpus of {name} is thin");
        for input in inputs {
            let path = input.expect("the folder can be read").path();
            println!("{}", path.display());
            let bytes = fs::read(&path).expect("an input can be read");
            target(&bytes);
            // Its every beginning is an input as well, as when a connection breaks.
            for end in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
                target(&bytes[..end]);
            }
        }
    }
}
