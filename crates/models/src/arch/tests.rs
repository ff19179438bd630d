use rekindle_testkit::Golden;
use serde_json::{Value, json};

use super::*;

fn config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 172,
        "vocab_size": 512, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
        "tie_word_embeddings": true, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    })
}

fn with(key: &str, value: Value) -> Result<Arch, ModelError> {
    let mut config = config();
    config[key] = value;
    Arch::from_hf(&config)
}

/// What is said of a config that is refused, with exit code 4.
#[track_caller]
fn message(key: &str, value: Value) -> String {
    let error = with(key, value).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    error.to_string()
}

#[test]
fn absent_keys_take_defaults() {
    let arch = Arch::from_hf(&config()).unwrap();
    assert_eq!(arch.head_dim, 8);
    let plain = RopeSpec { theta: 10_000.0, dims: 8, scaling: RopeScaling::None };
    assert_eq!(arch.rope, Some(plain));
    assert_eq!((arch.bos, arch.eos, arch.pad), (Some(1), vec![2], None));
    assert!(!arch.qkv_bias && !arch.output_bias && !arch.mlp_bias);
}

#[test]
fn a_written_config_reads_as_the_same_architecture() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_theta": 500000.0,
    });
    let several = json!([2, 7]);
    let archs = [
        Arch::from_hf(&config()),
        with("rope_parameters", llama3),
        with("rope_scaling", json!({ "type": "linear", "factor": 2.0 })),
        with("eos_token_id", several),
        with("tie_word_embeddings", json!(false)),
        with("attention_bias", json!(true)),
    ];
    for arch in archs {
        let arch = arch.unwrap();
        assert_eq!(Arch::from_hf(&arch.to_hf_config()).unwrap(), arch);
    }
}

#[test]
fn old_and_new_rope_keys_mean_the_same() {
    let mut old = config();
    old["rope_theta"] = json!(500000.0);
    old["rope_scaling"] = json!({ "type": "linear", "factor": 4.0 });
    let new = json!({ "rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0 });
    assert_eq!(Arch::from_hf(&old).unwrap(), with("rope_parameters", new).unwrap());
}

#[test]
fn numbers_out_of_range_are_refused_by_key() {
    let cases = [
        ("hidden_size", json!(1u64 << 31)),
        ("hidden_size", json!(-64)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_hidden_layers", json!(0)),
        ("vocab_size", json!(1_000_000_000_000u64)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(7)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("head_dim", json!(7)),
        ("intermediate_size", json!("172")),
        ("rope_theta", json!("NaN")),
        ("rope_theta", json!(-1.0)),
        ("rms_norm_eps", json!(0.0)),
        ("initializer_range", json!(-0.1)),
        ("eos_token_id", json!(512)),
    ];
    for (key, value) in cases {
        let text = message(key, value.clone());
        assert!(text.contains(&format!("`{key}`")), "{key} = {value}: {text}");
    }
}

#[test]
fn experts_that_cannot_be_are_refused_by_key() {
    let mixture = |kind: &str, key: &str, value: Value| {
        let mut config = config();
        config["model_type"] = json!(kind);
        for (key, value) in [
            ("num_local_experts", json!(4)),
            ("num_experts_per_tok", json!(2)),
            ("moe_intermediate_size", json!(16)),
            (key, value),
        ] {
            config[key] = value;
        }
        Arch::from_hf(&config)
    };
    for (kind, count) in [("mixtral", "num_local_experts"), ("qwen3_moe", "num_experts")] {
        assert!(mixture(kind, "num_experts_per_tok", json!(4)).is_ok(), "{kind}");
        for (key, value, wanted) in [
            ("num_experts_per_tok", json!(5), "num_experts_per_tok"),
            ("num_experts_per_tok", json!(0), "num_experts_per_tok"),
            ("num_experts_per_tok", json!(-1), "num_experts_per_tok"),
            (count, json!(0), count),
            (count, json!(1_000_000_000), count),
            (count, json!("4"), count),
        ] {
            let error = mixture(kind, key, value.clone()).unwrap_err();
            assert_eq!(error.exit_code(), 4, "{error}");
            let wanted = format!("`{wanted}`");
            assert!(error.to_string().contains(&wanted), "{kind}: {key} = {value}: {error}");
        }
    }
}

#[test]
fn an_absent_size_is_named() {
    let mut config = config();
    config.as_object_mut().unwrap().remove("hidden_size");
    let error = Arch::from_hf(&config).unwrap_err();
    assert!(matches!(error, ModelError::MissingKey { key } if key == "hidden_size"));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let text = message("model_type", json!("evil"));
    assert!(text.contains("`evil`") && text.contains("no remote code is ever run"), "{text}");
    assert!(text.contains("`llama`"), "{text}");
    assert!(message("hidden_act", json!("gelu")).contains("`gelu`"));
    assert!(message("rope_scaling", json!({ "rope_type": "spiral" })).contains("`spiral`"));
    let quantised = json!({ "quant_method": "awq" });
    assert!(message("quantization_config", quantised).contains("`awq`"));
}

#[test]
fn keys_that_name_code_are_ignored() {
    let plain = Arch::from_hf(&config()).unwrap();
    assert_eq!(with("auto_map", json!({ "AutoModel": "evil.Model" })).unwrap(), plain);
    assert_eq!(with("_attn_implementation_internal", json!("evil/x")).unwrap(), plain);
}

#[test]
fn a_tied_head_counts_once() {
    let tied = Arch::from_hf(&config()).unwrap();
    let untied = with("tie_word_embeddings", json!(false)).unwrap();
    let block = 64 * 64 * 2 + 32 * 64 * 2 + 3 * 172 * 64 + 2 * 64;
    assert_eq!(tied.n_parameters(), 512 * 64 + 2 * block + 64);
    assert_eq!(untied.n_parameters() - tied.n_parameters(), 512 * 64);
}

#[test]
fn biases_have_one_number_a_row() {
    let shapes = with("attention_bias", json!(true)).unwrap().tensor_shapes();
    let k_bias = "model.layers.1.self_attn.k_proj.bias".to_owned();
    assert!(shapes.contains(&(k_bias, vec![32])));
    assert!(!shapes.iter().any(|(name, _)| name == "model.layers.1.mlp.up_proj.bias"));
}

#[test]
fn llama3_keeps_high_frequencies_and_divides_low_ones() {
    let spec = |scaling| RopeSpec { theta: 500_000.0, dims: 128, scaling }.inverse_frequencies(1);
    let plain = spec(RopeScaling::None);
    let stretched = spec(RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    });
    assert_eq!(plain.len(), 64);
    assert_eq!(plain[0], 1.0);
    assert_eq!(stretched[0], plain[0]);
    assert!((stretched[63] - plain[63] / 8.0).abs() < 1e-15);
    // Pair 32 lies between the two: it turns more than once and less than four times in 8192.
    let turns = 8192.0 * plain[32] / std::f64::consts::TAU;
    let smooth = (turns - 1.0) / 3.0;
    assert!(smooth > 0.0 && smooth < 1.0);
    let between = (1.0 - smooth) * plain[32] / 8.0 + smooth * plain[32];
    assert!((stretched[32] - between).abs() < 1e-15);
}

#[test]
fn linear_scaling_divides_every_frequency() {
    let spec = |scaling| RopeSpec { theta: 10_000.0, dims: 8, scaling }.inverse_frequencies(1);
    let halves: Vec<f64> = spec(RopeScaling::None).iter().map(|it| it / 2.0).collect();
    assert_eq!(spec(RopeScaling::Linear { factor: 2.0 }), halves);
}

#[test]
fn stretched_frequencies_equal_transformers() {
    let golden = Golden::open("models/tiny/expected.safetensors");
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    };
    for (name, scaling) in [("llama3", llama3), ("linear", RopeScaling::Linear { factor: 4.0 })] {
        let ours = RopeSpec { theta: 500_000.0, dims: 128, scaling }.inverse_frequencies(1);
        let theirs = golden.floats(&format!("inv_freq.{name}"));
        assert_eq!(ours.len(), theirs.len());
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            // Theirs are f32 throughout.
            let off = (ours / f64::from(theirs) - 1.0).abs();
            assert!(off < 2e-6, "{name}[{at}]: {ours:e} against {theirs:e}");
        }
    }
}

#[test]
fn part_of_a_head_may_be_rotated() {
    let dims = |key: &str, value| with(key, value).unwrap().rope.unwrap().dims;
    assert_eq!(dims("partial_rotary_factor", json!(0.5)), 4);
    assert_eq!(dims("partial_rotary_factor", json!(1.0)), 8);
    let nested = json!({ "rope_type": "default", "partial_rotary_factor": 0.25 });
    assert_eq!(dims("rope_parameters", nested), 2);
    for (factor, found) in [(0.0, "`0`"), (1.5, "`1.5`"), (0.4, "`3`")] {
        let said = message("partial_rotary_factor", json!(factor));
        assert!(said.contains(found), "{factor}: {said}");
    }
}
