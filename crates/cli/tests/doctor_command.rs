//! `rekindle doctor`: what this build can use, checked.

use std::process::Command;

use serde_json::Value;

fn doctor(more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    let output = command.arg("doctor").args(more).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_number_format_of_the_processor_is_checked() {
    let (code, out) = doctor(&["--json"]);
    assert_eq!(code, Some(0), "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let backends = report["backends"].as_array().unwrap();
    let flex = backends.iter().find(|backend| backend["name"] == "flex").unwrap();
    let formats = flex["formats"].as_array().unwrap();
    let names: Vec<_> = formats.iter().map(|format| format["format"].as_str().unwrap()).collect();
    assert_eq!(names, ["f32", "bf16", "f16"]);
    for check in formats.iter().flat_map(|format| format["checks"].as_array().unwrap()) {
        assert_eq!(check["passes"], true, "{check}");
        assert!(check["difference"].as_f64().unwrap() <= check["limit"].as_f64().unwrap());
    }
}

#[test]
fn the_text_names_each_format_and_its_largest_difference() {
    let (code, out) = doctor(&[]);
    assert_eq!(code, Some(0), "{out}");
    for format in ["f32", "bf16", "f16"] {
        assert!(out.contains(&format!("flex, {format}: works, ")), "{out}");
    }
}
