//! The example ends with a classifier that knows the arms, and resumes exactly.

use std::process::Command;

#[test]
fn the_classifier_learns_the_spiral_and_a_resumed_run_has_the_same_bits() {
    let output = Command::new(env!("CARGO_BIN_EXE_rekindle-example-own-module")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for wanted in ["stopped on request: true", "step 150: goes on", "has the same bits: true"] {
        assert!(said.contains(wanted), "wanted `{wanted}` in: {said}");
    }
    let accuracy = said.lines().find_map(|line| line.strip_prefix("accuracy: ")).unwrap();
    assert!(accuracy.parse::<f64>().unwrap() > 0.97, "{said}");
}
