//! The example ends with the plane that it looks for.

use std::process::Command;

#[test]
fn the_loop_finds_the_plane_and_its_checkpoint_holds_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_rekindle-example-custom-loop")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("the gradient vanished after"), "{said}");
    assert!(said.contains("learning rate was halved: true"), "{said}");
    assert!(said.contains("the checkpoint holds the same plane: true"), "{said}");
    let line = said.lines().find_map(|line| line.strip_prefix("largest error of a coefficient: "));
    assert!(line.unwrap().parse::<f32>().unwrap() < 1e-3, "{said}");
}
