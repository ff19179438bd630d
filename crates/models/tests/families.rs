//! Each family against transformers: logits, loss, every gradient, and generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{Arch, CausalLm, Decoder, Stop};
use rekindle_testkit::{Golden, assert_close, device};
use serde_json::Value;

const FAMILIES: [&str; 2] = ["qwen2", "qwen3"];

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

fn input_ids(golden: &Golden) -> Tensor<2, Int> {
    let values: Vec<i32> = golden.ints("ids").iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(values, golden.shape("ids")), &device())
}

/// Gradients by Hugging Face's parameter names.
struct Grads<'a> {
    grads: &'a Gradients,
    path: Vec<String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Grads<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = param.val().grad(self.grads).expect("every parameter has a gradient");
        // A projection's dense base is what Hugging Face calls `weight`.
        let name = self.path.join(".").replace(".base.Dense", ".base").replace(".base", ".weight");
        self.found.insert(name, grad.into_data().try_to_vec().unwrap());
    }
}

#[test]
fn logits_equal_transformers() {
    for family in FAMILIES {
        let golden = golden(family);
        let ids = input_ids(&golden);
        let segments = Tensor::ones(ids.dims(), &device());
        let logits = decoder(family, &device()).logits(ids, segments);
        let logits = logits.into_data().try_to_vec::<f32>().unwrap();
        assert_close(&logits, &golden.floats("logits"), 0.0, 2e-5);
    }
}

#[test]
fn loss_and_every_gradient_equal_transformers() {
    for family in FAMILIES {
        let golden = golden(family);
        let model = decoder(family, &device().autodiff());
        let ids = input_ids(&golden);
        let [batch, seq] = ids.dims();
        let ones = Tensor::ones([batch, seq], &device());
        let predicted = (batch * (seq - 1)) as f64;
        let segments = Tensor::ones([batch, seq], &device());
        let loss = model.nll_sum(ids, segments, ones).div_scalar(predicted);
        let value = loss.clone().into_data().try_to_vec::<f32>().unwrap();
        assert_close(&value, &golden.floats("loss"), 1e-6, 0.0);
        let grads = loss.backward();
        let mut visitor = Grads { grads: &grads, path: Vec::new(), found: BTreeMap::new() };
        model.visit(&mut visitor);
        let names = golden.names();
        let wanted: Vec<&str> = names.iter().filter_map(|it| it.strip_prefix("grad.")).collect();
        let found: Vec<&str> = visitor.found.keys().map(String::as_str).collect();
        assert_eq!(found, wanted, "{family}");
        for (name, grad) in &visitor.found {
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
        let prompt: Vec<u32> = golden.ints("ids")[..5].iter().map(|&id| id as u32).collect();
        let wanted: Vec<u32> = golden.ints("generated").iter().map(|&id| id as u32).collect();
        let stop = Stop { eos: Vec::new(), max_new_tokens: wanted.len() };
        let given = decoder(family, &device()).generate_greedy(&prompt, &stop, |_| true);
        assert_eq!(given, wanted, "{family}");
    }
}

#[test]
fn a_gguf_file_holds_the_same_model() {
    for family in FAMILIES {
        let files = open(&folder(family).join("model.gguf")).unwrap();
        let arch = files.arch().unwrap();
        let of_folder = open(&folder(family)).unwrap().arch().unwrap();
        // GGUF says nothing of fresh weights, and a SentencePiece vocabulary has defaults.
        let same = Arch { initializer_range: of_folder.initializer_range, ..arch.clone() };
        assert_eq!(same, of_folder, "{family}");
        let names = files.source().names();
        let folder = open(&folder(family)).unwrap();
        assert_eq!(names, folder.source().names(), "{family}");
        for name in names {
            let [ours, theirs] = [&files, &folder].map(|it| it.source().read_f32(&name).unwrap());
            assert_eq!(ours, theirs, "{family}: `{name}`");
        }
        Decoder::load(files.source(), &arch, &device()).unwrap();
    }
}

#[test]
fn a_written_config_is_read_back_and_agrees_with_transformers_own() {
    for family in FAMILIES {
        let text = std::fs::read_to_string(folder(family).join("config.json")).unwrap();
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let arch = Arch::from_hf(&theirs).unwrap();
        let ours = arch.to_hf_config();
        assert_eq!(Arch::from_hf(&ours).unwrap(), arch);
        let object = theirs.as_object().unwrap();
        for (key, value) in object.iter().filter(|(key, _)| ours.get(key.as_str()).is_some()) {
            assert_eq!(&ours[key], value, "{family}: `{key}`");
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
