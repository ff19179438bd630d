//! Each family against transformers: logits, loss, every gradient, and generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, FloatDType, Gradients, Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{Arch, CausalLm, Decoder, Generation, MergedTensor, Tokens};
use rekindle_testkit::{Golden, assert_close, device};
use serde_json::Value;

const FAMILIES: [&str; 25] = [
    "gemma2",
    "gemma3_text",
    "gpt2",
    "granite",
    "llama3",
    "llama_dynamic",
    "llama_linear",
    "llama_mqa",
    "llama_yarn",
    "llama_yarn_mscale",
    "mistral",
    "mixtral",
    "mixtral_window",
    "olmo2",
    "phi3",
    "phi3_longrope",
    "phi3_window",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "qwen3_moe",
    "qwen3_moe_raw",
    "qwen3_window",
    "smollm3",
    "smollm3_window",
];

/// Those with a `model.gguf`.
const IN_GGUF: [&str; 11] = [
    "gemma2",
    "gemma3_text",
    "llama3",
    "llama_linear",
    "llama_mqa",
    "mistral",
    "phi3",
    "phi3_longrope",
    "phi3_window",
    "qwen2",
    "qwen3",
];

/// The blocks with a window in each variant: all, those from `max_window_layers` on, those that
/// are not rotated.
const WINDOWS: [(&str, &[Option<usize>]); 5] = [
    ("mixtral_window", &[Some(8), Some(8)]),
    ("phi3_window", &[Some(8), Some(8)]),
    ("qwen2_window", &[None, Some(8)]),
    ("qwen3_window", &[None, Some(8)]),
    ("smollm3_window", &[None, Some(8), None]),
];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families").join(family)
}

fn decoder(family: &str, device: &Device) -> Decoder {
    let files = open(&folder(family)).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), device).unwrap()
}

fn golden(family: &str) -> Golden {
    Golden::open(&format!("models/families/{family}/expected.safetensors"))
}

fn input_ids(golden: &Golden, name: &str) -> Tensor<2, Int> {
    let values: Vec<i32> = golden.ints(name).iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(values, golden.shape(name)), &device())
}

/// The gradient of every weight, as a Hugging Face folder would hold it.
fn gradients(model: &Decoder, grads: &Gradients) -> BTreeMap<String, Vec<f32>> {
    let values = |grad: Tensor<2>| grad.into_data().try_to_vec::<f32>().unwrap();
    let of = |tensor: MergedTensor| match tensor {
        MergedTensor::Vector(it) => it.grad(grads).map(|it| values(it.unsqueeze())),
        MergedTensor::Matrix(it) => it.grad(grads).map(values),
    };
    let stored = model.merged_tensors().into_iter();
    let mut found: BTreeMap<String, Option<Vec<f32>>> =
        stored.map(|(name, tensor)| (name, of(tensor))).collect();
    // What is stored transposed is no leaf; the projection's own weight is.
    for (name, projection) in model.projections() {
        let entry = found.get_mut(&format!("{name}.weight")).unwrap();
        if entry.is_none() {
            let grad = projection.base().dense().grad(grads);
            *entry = grad.map(|it| values(it.transpose()));
        }
    }
    found.into_iter().filter_map(|(name, grad)| Some((name, grad?))).collect()
}

fn logits(model: &Decoder, golden: &Golden, ids: &str) -> Vec<f32> {
    let ids = input_ids(golden, ids);
    let segments = Tensor::ones(ids.dims(), &device());
    model.logits(Tokens::new(ids, segments)).into_data().try_to_vec().unwrap()
}

fn token_ids(golden: &Golden, name: &str) -> Vec<u32> {
    golden.ints(name).iter().map(|&id| id as u32).collect()
}

/// What generation adds to the first five tokens, as many as transformers added.
fn greedy_tokens(model: &Decoder, golden: &Golden) -> Vec<u32> {
    let prompt = &token_ids(golden, "ids")[..5];
    let greedy = Generation::greedy(Vec::new(), golden.ints("generated").len());
    model.generate(&[prompt], &greedy, |_| true)[0].tokens.clone()
}

#[test]
fn logits_equal_transformers() {
    for family in FAMILIES {
        println!("{family}");
        let (golden, model) = (golden(family), decoder(family, &device()));
        assert_close(&logits(&model, &golden, "ids"), &golden.floats("logits"), 0.0, 2e-5);
    }
}

#[test]
fn a_text_beyond_the_original_context_has_frequencies_of_its_own() {
    let (golden, model) = (golden("phi3_longrope"), decoder("phi3_longrope", &device()));
    let long = logits(&model, &golden, "ids_long");
    assert_close(&long, &golden.floats("logits_long"), 0.0, 2e-5);
}

#[test]
fn loss_and_every_gradient_equal_transformers() {
    for family in FAMILIES {
        println!("{family}");
        let golden = golden(family);
        let model = decoder(family, &device().autodiff());
        let ids = input_ids(&golden, "ids");
        let [batch, seq] = ids.dims();
        let ones = Tensor::ones([batch, seq], &device());
        let predicted = (batch * (seq - 1)) as f64;
        let segments = Tensor::ones([batch, seq], &device());
        let loss = model.nll_sum(Tokens::new(ids, segments), ones).div_scalar(predicted);
        let value = loss.clone().into_data().try_to_vec::<f32>().unwrap();
        assert_close(&value, &golden.floats("loss"), 1e-6, 0.0);
        let grads = loss.backward();
        let grads = gradients(&model, &grads);
        let names = golden.names();
        let wanted: Vec<&str> = names.iter().filter_map(|it| it.strip_prefix("grad.")).collect();
        let found: Vec<&str> = grads.keys().map(String::as_str).collect();
        assert_eq!(found, wanted, "{family}");
        for (name, grad) in &grads {
            let wanted = golden.floats(&format!("grad.{name}"));
            let largest = wanted.iter().fold(0.0f32, |max, g| max.max(g.abs()));
            assert!(largest > 1e-4, "{family}: the gradient of `{name}` is nothing");
            assert_close(grad, &wanted, 0.0, 1e-5 * f64::from(largest));
        }
    }
}

#[test]
fn cached_generation_gives_transformers_tokens() {
    for family in FAMILIES {
        let golden = golden(family);
        let given = greedy_tokens(&decoder(family, &device()), &golden);
        assert_eq!(given, token_ids(&golden, "generated"), "{family}");
    }
}

#[test]
fn windows_stand_where_the_config_puts_them_with_or_without_a_list_of_kinds() {
    for (family, wanted) in WINDOWS {
        let text = std::fs::read_to_string(folder(family).join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        let listed = Arch::from_hf(&config).unwrap();
        let windows: Vec<Option<usize>> = listed.layers.iter().map(|it| it.window).collect();
        assert_eq!(windows, wanted, "{family}");
        config.as_object_mut().unwrap().remove("layer_types");
        assert_eq!(Arch::from_hf(&config).unwrap(), listed, "{family}");
    }
}

/// So that the goldens above show a window that is left out, or that is one token off.
#[test]
fn another_window_gives_other_logits_and_none_gives_other_tokens() {
    for (family, _) in WINDOWS {
        let (golden, files) = (golden(family), open(&folder(family)).unwrap());
        let arch = files.arch().unwrap();
        for other in [None, Some(7), Some(9)] {
            let mut arch = arch.clone();
            arch.layers.iter_mut().for_each(|layer| layer.window = layer.window.and(other));
            let model = Decoder::load(files.source(), &arch, &device()).unwrap();
            let (ours, wanted) = (logits(&model, &golden, "ids"), golden.floats("logits"));
            let differences = ours.iter().zip(&wanted).map(|(ours, wanted)| (ours - wanted).abs());
            assert!(differences.fold(0.0, f32::max) > 0.1, "{family} with {other:?}");
            if other.is_none() {
                let tokens = greedy_tokens(&model, &golden);
                assert_ne!(tokens, token_ids(&golden, "generated"), "{family}");
            }
        }
    }
}

#[test]
fn a_gguf_file_holds_the_same_weights() {
    for family in IN_GGUF {
        let files = open(&folder(family).join("model.gguf")).unwrap();
        let of_folder = open(&folder(family)).unwrap();
        let names = files.source().names();
        assert_eq!(names, of_folder.source().names(), "{family}");
        for name in names {
            let [ours, theirs] =
                [&files, &of_folder].map(|it| it.source().read_f32(&name).unwrap());
            // One more than a gain does not give all of its bits back.
            let rounding = if family.starts_with("gemma") { 1.2e-7 } else { 0.0 };
            assert_close(&ours, &theirs, 0.0, rounding);
        }
    }
}

#[test]
fn a_gguf_file_is_the_same_model() {
    for family in IN_GGUF {
        println!("{family}");
        let files = open(&folder(family).join("model.gguf")).unwrap();
        let arch = files.arch().unwrap();
        let golden = golden(family);
        let model = Decoder::load(files.source(), &arch, &device()).unwrap();
        // GGUF keeps neither Mistral's window nor Gemma's scale of the scores.
        let kept = golden.names().iter().any(|name| name == "logits_gguf");
        let wanted = if kept { "logits_gguf" } else { "logits" };
        assert_close(&logits(&model, &golden, "ids"), &golden.floats(wanted), 0.0, 2e-5);
        // Of Llama 3's settings it keeps the outcome, of LongRoPE's factor seven digits.
        if kept || ["llama3", "phi3_longrope"].contains(&family) {
            continue;
        }
        let of_folder = open(&folder(family)).unwrap().arch().unwrap();
        // It says nothing of fresh weights either.
        let same = Arch { initializer_range: of_folder.initializer_range, ..arch };
        assert_eq!(same, of_folder, "{family}");
    }
}

/// Quantised weights, unpacked as gguf-py does and run by transformers.
fn assert_quantised_gives_logits(path: &Path, expected: &str) {
    println!("{}", path.display());
    let files = open(path).unwrap();
    let model = Decoder::load(files.source(), &files.arch().unwrap(), &device()).unwrap();
    let golden = Golden::open(&format!("models/families/{expected}"));
    assert_close(&logits(&model, &golden, "ids"), &golden.floats("logits"), 0.0, 1e-4);
}

#[test]
fn quantised_gguf_files_give_transformers_logits() {
    let packed = folder("quant").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let packed: Vec<PathBuf> = packed.filter(|path| path.extension().unwrap() == "gguf").collect();
    assert_eq!(packed.len(), 14);
    for path in packed {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_quantised_gives_logits(&path, &format!("quant/{stem}.safetensors"));
    }
}

/// Two blocks with a tied head, in a file beside the plain ones.
#[test]
fn a_quantised_gguf_file_beside_a_folder_gives_transformers_logits() {
    let path = folder("qwen2").join("model_q8_0.gguf");
    assert_quantised_gives_logits(&path, "qwen2/expected_q8_0.safetensors");
}

#[test]
fn a_written_config_is_read_back_and_agrees_with_transformers_own() {
    for family in FAMILIES {
        let text = std::fs::read_to_string(folder(family).join("config.json")).unwrap();
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let arch = Arch::from_hf(&theirs).unwrap();
        let ours = arch.to_hf_config();
        assert_eq!(Arch::from_hf(&ours).unwrap(), arch);
        // Which blocks have experts can be said in two ways.
        let mut theirs = theirs;
        if family == "qwen3_moe_raw" {
            theirs["decoder_sparse_step"].take();
            theirs["mlp_only_layers"].take();
        }
        assert_agree(&ours, &theirs, family);
    }
}

/// Asserts that every key that both have says the same; `null` says nothing.
fn assert_agree(ours: &Value, theirs: &Value, place: &str) {
    let (Some(ours), Some(theirs)) = (ours.as_object(), theirs.as_object()) else {
        assert_eq!(ours, theirs, "{place}");
        return;
    };
    for (key, theirs) in theirs {
        if let Some(ours) = ours.get(key).filter(|_| !theirs.is_null()) {
            assert_agree(ours, theirs, &format!("{place}, `{key}`"));
        }
    }
}

#[test]
fn a_random_decoder_has_the_shapes_of_its_architecture() {
    for family in FAMILIES {
        let arch = open(&folder(family)).unwrap().arch().unwrap();
        let model = Decoder::random(&arch, 7, &device());
        let mut merged: Vec<String> =
            model.merged_tensors().into_iter().map(|(name, _)| name).collect();
        let shapes = arch.tensor_shapes().into_iter();
        let mut wanted: Vec<String> = shapes.map(|(name, _)| name).collect();
        merged.sort();
        wanted.sort();
        assert_eq!(merged, wanted, "{family}");
    }
}

/// bf16 keeps eight bits of each number; what is lost adds up over two blocks.
#[test]
fn a_model_in_bf16_computes_nearly_the_same() {
    for family in ["qwen3", "phi3"] {
        let files = open(&folder(family)).unwrap();
        let arch = files.arch().unwrap();
        let model = Decoder::load_as(files.source(), &arch, FloatDType::BF16, &device()).unwrap();
        let golden = golden(family);
        let ids = input_ids(&golden, "ids");
        let segments = Tensor::ones(ids.dims(), &device());
        let logits = model.logits(Tokens::new(ids, segments));
        assert_eq!(logits.dtype(), DType::BF16);
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let wanted = golden.floats("logits");
        let largest = wanted.iter().fold(0.0f32, |max, it| max.max(it.abs()));
        assert_close(&logits, &wanted, 0.0, 0.05 * f64::from(largest));
        let greedy = Generation::greedy(Vec::new(), 8);
        assert_eq!(model.generate(&[&[1, 2, 3]], &greedy, |_| true)[0].tokens.len(), 8);
    }
}
