//! Every method against its own library, over 50 updates.

use burn::tensor::{Device, TensorData};
use rekindle_testkit::{Golden, assert_close, device};

use super::block_quantization::{BLOCK, Codebooks};
use super::*;

/// One parameter of each kind, as in the script that made the golden files.
#[derive(Module, Debug)]
struct Four {
    matrix: Param<Tensor<2>>,
    tall: Param<Tensor<2>>,
    stack: Param<Tensor<3>>,
    vector: Param<Tensor<1>>,
}

const MATRIX: [usize; 2] = [64, 65];
const TALL: [usize; 2] = [24, 6];
const STACK: [usize; 3] = [2, 3, 4];
const VECTOR: [usize; 1] = [10];

/// The numbers that the script draws by the same name.
fn draw(param: u64, step: u64, elements: usize) -> Vec<f32> {
    const MASK: u64 = 0xFFFF_FFFF;
    let one = |at: u64| {
        let mut x = at.wrapping_mul(2_654_435_761) + step * 40_503 * 65_537;
        x = (x + param * 97 * 131_071 + 7) & MASK;
        x ^= x >> 15;
        x = x.wrapping_mul(73_244_475) & MASK;
        x ^= x >> 13;
        x = x.wrapping_mul(73_244_475) & MASK;
        x ^= x >> 16;
        let number = (x >> 8) as f32 / 8_388_608.0 - 1.0;
        let halvings = (x & 7) + step % 3;
        if x.is_multiple_of(61) { 0.0 } else { number * 0.5f32.powi(halvings as i32) }
    };
    (0..elements as u64).map(one).collect()
}

fn tensor<const D: usize>(param: u64, step: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let numbers = draw(param, step, shape.iter().product());
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn start() -> Four {
    let device = device().autodiff();
    Four {
        matrix: Param::from_tensor(tensor(0, 999, MATRIX, &device)),
        tall: Param::from_tensor(tensor(1, 999, TALL, &device)),
        stack: Param::from_tensor(tensor(2, 999, STACK, &device)),
        vector: Param::from_tensor(tensor(3, 999, VECTOR, &device)),
    }
}

fn gradients(four: &Four, step: u64) -> GradientsParams {
    let mut grads = GradientsParams::new();
    grads.register(four.matrix.id, tensor(0, step, MATRIX, &device()));
    grads.register(four.tall.id, tensor(1, step, TALL, &device()));
    grads.register(four.stack.id, tensor(2, step, STACK, &device()));
    grads.register(four.vector.id, tensor(3, step, VECTOR, &device()));
    grads
}

fn values(four: &Four) -> [(&'static str, Vec<f32>); 4] {
    fn floats<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().into_data().try_to_vec().unwrap()
    }
    [
        ("matrix", floats(&four.matrix)),
        ("tall", floats(&four.tall)),
        ("stack", floats(&four.stack)),
        ("vector", floats(&four.vector)),
    ]
}

/// Takes 50 steps and calls `look` after the ones that are stored.
fn run(
    optimizer: &mut Optimizer,
    base: Option<f64>,
    mut look: impl FnMut(u64, &Four, &Optimizer),
) -> Four {
    let mut four = start();
    for step in 0..50 {
        let lr = base.map_or(1.0, |base| base * (1.0 - step as f64 / 100.0));
        let grads = gradients(&four, step);
        four = optimizer.step(lr, four, grads);
        if [1, 10, 50].contains(&(step + 1)) {
            look(step + 1, &four, optimizer);
        }
    }
    four
}

/// All parameters after 1, 10 and 50 steps against the golden file's, whose names have `prefix`.
fn check(method: impl Into<OptimizerMethod>, base: Option<f64>, golden: &Golden, prefix: &str) {
    check_within(1e-5, method, base, golden, prefix);
}

fn check_within(
    atol: f64,
    method: impl Into<OptimizerMethod>,
    base: Option<f64>,
    golden: &Golden,
    prefix: &str,
) {
    let mut optimizer = Optimizer::new(method);
    run(&mut optimizer, base, |step, four, _| {
        for (name, ours) in values(four) {
            let expected = golden.floats(&format!("{prefix}{name}.after.{step}"));
            assert_close(&ours, &expected, 1e-5, atol);
        }
    });
}

#[test]
fn adamw_matches_torch_over_fifty_steps() {
    let golden = Golden::open("train/optimizers/adamw.safetensors");
    check(AdamW { weight_decay: 0.1, ..AdamW::default() }, Some(0.01), &golden, "");
}

#[test]
fn lion_matches_bitsandbytes() {
    let golden = Golden::open("train/optimizers/lion.safetensors");
    check(Lion { weight_decay: 0.1, ..Lion::default() }, Some(0.001), &golden, "");
}

#[test]
fn sgd_matches_torch() {
    let golden = Golden::open("train/optimizers/sgd.safetensors");
    let plain = Sgd { weight_decay: 0.1, ..Sgd::default() };
    let momentum = Sgd { momentum: 0.9, dampening: 0.1, ..plain.clone() };
    let nesterov = Sgd { momentum: 0.9, nesterov: true, ..plain.clone() };
    for (case, sgd) in [("plain.", plain), ("momentum.", momentum), ("nesterov.", nesterov)] {
        check(sgd, Some(0.05), &golden, case);
    }
}

#[test]
fn adafactor_matches_transformers() {
    let golden = Golden::open("train/optimizers/adafactor.safetensors");
    let outer = Adafactor { weight_decay: 0.1, ..Adafactor::default() };
    let scaled = Adafactor { scale_parameter: true, beta1: Some(0.9), ..outer.clone() };
    let clipped = Adafactor { clip_threshold: 0.3, ..outer.clone() };
    let relative = Adafactor { scale_parameter: true, relative_step: true, ..outer.clone() };
    let warmup = Adafactor { warmup_init: true, decay_rate: -0.5, ..relative.clone() };
    check(outer, Some(0.01), &golden, "outer.");
    check(scaled, Some(0.01), &golden, "scaled.");
    check(clipped, Some(0.01), &golden, "clipped.");
    check(relative, None, &golden, "relative.");
    check(warmup, None, &golden, "warmup.");
}

#[test]
fn muon_matches_torch_and_gives_the_rest_to_adamw() {
    let golden = Golden::open("train/optimizers/muon.safetensors");
    let original = Muon::default();
    let rms =
        Muon { adjust_lr: AdjustLearningRate::MatchRmsAdamW, nesterov: false, ..Muon::default() };
    let spectral =
        Muon { adjust_lr: AdjustLearningRate::SpectralUnclamped, ns_steps: 3, ..Muon::default() };
    for (case, muon) in
        [("original.", original), ("match_rms_adamw.", rms), ("spectral_unclamped.", spectral)]
    {
        // Sums in another order round a bf16 the other way now and then: 2⁻¹⁰ of a step of at most
        // 1.6e-3 each time, for a number between 1/4 and 1/2. Of 4160 numbers one goes beyond 1e-5.
        check_within(2e-5, muon, Some(0.001), &golden, case);
    }
}

#[test]
fn matrices_of_embeddings_and_heads_are_updated_by_adamw_at_its_own_rate() {
    let adamw = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let muon = Muon {
        adamw: adamw.clone(),
        adamw_lr_factor: 2.0,
        adamw_paths: Some(PathPattern::new("matrix|tall").unwrap()),
        ..Muon::default()
    };
    let mut optimizer = Optimizer::new(muon);
    let by_muon = run(&mut optimizer, Some(0.005), |_, _, _| {});
    let by_adamw = run(&mut Optimizer::new(adamw), Some(0.01), |_, _, _| {});
    assert_eq!(optimizer.states["matrix"].slots.len(), 2);
    for ((_, muons), (_, adamws)) in values(&by_muon).into_iter().zip(values(&by_adamw)) {
        assert_close(&muons, &adamws, 1e-6, 1e-7);
    }
}

#[test]
fn codes_and_scales_match_bitsandbytes() {
    let golden = Golden::open("train/optimizers/adamw_8bit.safetensors");
    let mut numbers = draw(5, 0, 1000);
    numbers[256..512].fill(0.0);
    let mut codebooks = Codebooks::default();
    for (name, book) in ["signed", "unsigned"].into_iter().zip(codebooks.on(&device())) {
        assert_eq!(book.numbers(), golden.floats(&format!("code.{name}")));
        let data = TensorData::new(numbers.clone(), [1000]);
        let (codes, absmax) = book.pack(Tensor::from_data(data, &device()));
        let unpacked = book.unpack(codes.clone(), absmax.clone());
        let codes: Vec<i64> = codes.into_data().iter::<i64>().collect();
        assert_eq!(codes, golden.ints(&format!("pack.{name}.codes")));
        let floats = |tensor: Tensor<1>| tensor.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(floats(absmax), golden.floats(&format!("pack.{name}.absmax")));
        assert_eq!(floats(unpacked), golden.floats(&format!("pack.{name}.unpacked")));
        numbers.iter_mut().for_each(|number| *number = number.abs());
    }
}

#[test]
fn adamw_8bit_matches_bitsandbytes() {
    let golden = Golden::open("train/optimizers/adamw_8bit.safetensors");
    let adamw = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let mut optimizer = Optimizer::new(AdamW8bit { adamw, ..AdamW8bit::default() });
    run(&mut optimizer, Some(0.01), |step, four, optimizer| {
        let tensors = &optimizer.states["matrix"].tensors;
        let stored = |at: usize| tensors[at].to_data().unwrap();
        for (at, name) in [(0, "m"), (2, "v")] {
            let ours: Vec<i64> = stored(at).iter::<i64>().collect();
            assert_eq!(ours, golden.ints(&format!("matrix.{name}.{step}")), "{name} at {step}");
            let absmax: Vec<f32> = stored(at + 1).try_to_vec().unwrap();
            let expected = golden.floats(&format!("matrix.{name}_absmax.{step}"));
            assert_eq!(absmax.len(), (64 * 65usize).div_ceil(BLOCK));
            assert_close(&absmax, &expected, 1e-6, 0.0);
        }
        assert_eq!(optimizer.states["tall"].slots[0].dtype, DType::F32);
        for (name, ours) in values(four) {
            let expected = golden.floats(&format!("{name}.after.{step}"));
            assert_close(&ours, &expected, 1e-5, 1e-5);
        }
    });
}

/// Every method once, with a state of every kind.
fn methods() -> Vec<OptimizerMethod> {
    vec![
        AdamW::default().into(),
        AdamW8bit::default().into(),
        Sgd { momentum: 0.9, ..Sgd::default() }.into(),
        Lion::default().into(),
        Adafactor { beta1: Some(0.9), ..Adafactor::default() }.into(),
        Muon::default().into(),
    ]
}

#[test]
fn offloaded_state_gives_the_same_numbers_bit_for_bit() {
    let bits = |four: &Four| {
        let values = values(four).into_iter().flat_map(|(_, values)| values);
        values.map(f32::to_bits).collect::<Vec<_>>()
    };
    for method in methods() {
        let name = method.name();
        let mut on_device = Optimizer::new(method.clone());
        let mut on_host = Optimizer::new(method).with_offload(true);
        let device_bits = bits(&run(&mut on_device, Some(0.01), |_, _, _| {}));
        let host_bits = bits(&run(&mut on_host, Some(0.01), |_, _, _| {}));
        assert_eq!(device_bits, host_bits, "{name}");
        let is_host = |tensor: &StateTensor| matches!(tensor, StateTensor::Host(_));
        assert!(on_host.states.values().all(|it| it.tensors.iter().all(is_host)), "{name}");
        assert!(!on_device.states.values().any(|it| it.tensors.iter().any(is_host)), "{name}");
    }
}
