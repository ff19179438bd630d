use rekindle_testkit::{Golden, assert_close, device};

use super::*;

/// Two parameters, as in the golden file.
#[derive(Module, Debug)]
pub(crate) struct Pair {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
}

impl Pair {
    pub(crate) fn open(golden: &Golden) -> Self {
        let device = device().autodiff();
        Self {
            weight: Param::from_tensor(golden.tensor("weight.start", &device)),
            bias: Param::from_tensor(golden.tensor("bias.start", &device)),
        }
    }
}

fn floats<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
    param.val().into_data().try_to_vec().unwrap()
}

/// A group of all parameters, vectors too, with this decay.
fn all_decayed(weight_decay: f64) -> ParamGroups {
    let pattern = PathPattern::new(".*").unwrap();
    let group = ParamGroup { pattern, lr_factor: None, weight_decay: Some(weight_decay) };
    ParamGroups { groups: vec![group], loraplus: None }
}

#[test]
fn adamw_matches_torch_over_ten_steps() {
    let golden = Golden::open("train/adamw.safetensors");
    let mut pair = Pair::open(&golden);
    let mut optimizer = Optimizer::new(AdamW::default()).with_groups(all_decayed(0.1));
    for (step, lr) in golden.floats("rates").into_iter().enumerate() {
        let mut grads = GradientsParams::new();
        let grad = |name: &str| format!("{name}.grad.{step}");
        grads.register(pair.weight.id, golden.tensor::<2>(&grad("weight"), &device()));
        grads.register(pair.bias.id, golden.tensor::<1>(&grad("bias"), &device()));
        pair = optimizer.step(f64::from(lr), pair, grads);
        let after = |name: &str| golden.floats(&format!("{name}.after.{step}"));
        assert_close(&floats(&pair.weight), &after("weight"), 1e-6, 1e-6);
        assert_close(&floats(&pair.bias), &after("bias"), 1e-6, 1e-6);
    }
    let keys: Vec<_> = optimizer.states.keys().map(String::as_str).collect();
    assert_eq!(keys, ["bias", "weight"]);
}

#[test]
fn a_parameter_keeps_its_identity_and_its_gradient_after_an_update() {
    let golden = Golden::open("train/adamw.safetensors");
    let pair = Pair::open(&golden);
    let id = pair.weight.id;
    let mut optimizer = Optimizer::new(AdamW::default());
    let grads = pair.weight.val().square().sum().backward();
    let pair_grads = GradientsParams::from_grads(grads, &pair);
    let updated = optimizer.step(0.1, pair.clone(), pair_grads);
    assert_eq!(updated.weight.id, id);
    assert!(updated.weight.is_require_grad());
    // The bias had no gradient: it is untouched and has no state.
    assert_eq!(floats(&updated.bias), floats(&pair.bias));
    assert!(!optimizer.states.contains_key("bias"));
    let again = updated.weight.val().square().sum().backward();
    assert!(updated.weight.val().grad(&again).is_some());
}

#[test]
fn state_is_f32_for_a_bf16_parameter() {
    let golden = Golden::open("train/adamw.safetensors");
    let mut pair = Pair::open(&golden);
    pair.weight = pair.weight.map(|it| it.inner().cast(FloatDType::BF16).autodiff().require_grad());
    let loss = pair.weight.val().cast(FloatDType::F32).square().sum();
    let grads = GradientsParams::from_grads(loss.backward(), &pair);
    let mut optimizer = Optimizer::new(AdamW::default());
    let updated = optimizer.step(0.1, pair, grads);
    assert_eq!(updated.weight.val().dtype(), DType::BF16);
    let [m, _] = state::all_numbers(optimizer.states["weight"].tensors.clone());
    assert_eq!(m.dtype(), DType::F32);
    assert!(!m.is_autodiff());
}

#[test]
fn the_first_group_that_matches_counts_and_leaves_open_what_it_does_not_say() {
    let group = |pattern: &str, lr_factor, weight_decay| ParamGroup {
        pattern: PathPattern::new(pattern).unwrap(),
        lr_factor,
        weight_decay,
    };
    let loraplus = LoraPlus { b_paths: PathPattern::new(r".*\.b").unwrap(), ratio: 16.0 };
    let groups = ParamGroups {
        groups: vec![
            group(r"up\..*", Some(0.5), None),
            group(r".*\.norm", None, Some(0.2)),
            group(".*", Some(9.0), Some(0.9)),
        ],
        loraplus: Some(loraplus.clone()),
    };
    let choose = |groups: &ParamGroups, path: &str, shape: &[usize]| {
        let choice = groups.choose(path, shape);
        (choice.lr_factor, choice.weight_decay)
    };
    assert_eq!(choose(&groups, "up.b", &[2, 2]), (0.5, None));
    assert_eq!(choose(&groups, "up.norm", &[2]), (0.5, Some(0.0)));
    assert_eq!(choose(&groups, "x.norm", &[2]), (16.0, Some(0.2)));
    assert_eq!(choose(&groups, "up", &[2, 2]), (9.0, Some(0.9)));
    let plain = ParamGroups { groups: Vec::new(), loraplus: Some(loraplus) };
    assert_eq!(choose(&plain, "x.a", &[2, 2]), (1.0, None));
    assert_eq!(choose(&plain, "x.b", &[2, 2]), (16.0, None));

    let paths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert!(groups.check(&paths(&["up.b", "x.norm", "y"])).is_ok());
    let error = groups.check(&paths(&["up.b", "up.norm", "y"])).unwrap_err().to_string();
    assert!(error.contains("that an earlier group leaves"), "{error}");
    let error = groups.check(&paths(&["x.norm", "y"])).unwrap_err().to_string();
    assert!(error.contains(r"`up\..*` matches no parameter;"), "{error}");
    assert!(error.contains("the 2 trainable parameters are `x.norm`, `y`"), "{error}");
    assert!(PathPattern::new("a)(b").unwrap_err().to_string().contains("`a)(b`"));
}

#[test]
fn loraplus_gives_the_rates_of_peft() {
    let golden = Golden::open("train/optimizers/loraplus.safetensors");
    let b_paths = PathPattern::new(r".*\.lora_b").unwrap();
    let loraplus = Some(LoraPlus { b_paths, ratio: 16.0 });
    let groups = ParamGroups { groups: Vec::new(), loraplus };
    for (name, path, shape) in
        [("a", "l.lora_a", &[2, 4][..]), ("b", "l.lora_b", &[4, 2]), ("bias", "l.bias", &[4])]
    {
        let ours = (0.001 * groups.choose(path, shape).lr_factor) as f32;
        assert_close(&[ours], &golden.floats(name), 1e-6, 0.0);
    }
}
