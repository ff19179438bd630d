//! The example ends with a student that is close to its teacher.

use std::process::Command;

#[test]
fn the_student_comes_close_to_its_teacher_on_rows_that_it_was_not_trained_on() {
    let program = env!("CARGO_BIN_EXE_rekindle-example-custom-objective");
    let output = Command::new(program).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|line| line.strip_prefix("divergence of held-out rows: "));
    let words: Vec<&str> = line.unwrap().split(' ').collect();
    let [before, after] = [words[0], words[2]].map(|word| word.parse::<f32>().unwrap());
    assert!(after < 0.5 * before, "{said}");
}
