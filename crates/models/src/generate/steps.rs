//! One token after the other for a batch of texts, recorded and repeated where the device can.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Int, Tensor};
use rekindle_kernels::{self as kernels, Recorded, recorded};

use crate::cache::Cache;
use crate::causal_lm::CausalLm;
use crate::decoder::{Decoder, Pass};

/// Fewer tokens than this are not worth the four runs that a recording takes.
const WORTH_RECORDING: usize = 16;

/// Scores of the next token, `[batch, vocab]`, and the token of the highest where only that is
/// asked for.
#[derive(Clone)]
pub(super) struct Scores {
    pub logits: Tensor<2>,
    pub best: Option<Tensor<2, Int>>,
}

/// A step that was recorded, with the tensors it reads.
type Recording<'a> = (Pass, Recorded<Scores, Box<dyn FnMut() -> Scores + 'a>>);

/// The texts' cache and the step that goes on from it.
pub(super) struct Steps<'a> {
    decoder: &'a Decoder,
    /// Shared with the recorded step, which writes to it.
    cache: Rc<RefCell<Cache>>,
    recording: Option<Recording<'a>>,
    records: bool,
    /// Whether the cache must be made anew: a recording failed that wrote to it.
    lost: bool,
    only_best: bool,
}

impl<'a> Steps<'a> {
    pub(super) fn new(decoder: &'a Decoder, cache: Cache, only_best: bool) -> Self {
        let records = decoder.stays_on_device() && recorded::can_record(&decoder.device());
        let cache = Rc::new(RefCell::new(cache));
        Self { decoder, cache, recording: None, records, lost: false, only_best }
    }

    /// The same with these of its rows, in this order and as often as they are named.
    pub(super) fn select(self, rows: &[usize]) -> Self {
        let cache = self.cache.borrow().select(rows, &self.decoder.device());
        let (records, lost) = (self.records, self.lost);
        Self { records, lost, ..Self::new(self.decoder, cache, self.only_best) }
    }

    /// Whether the cache can no longer be used.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// The same, recording nothing.
    pub(super) fn step_by_step(self) -> Self {
        Self { records: false, ..self }
    }

    /// Scores after `rows` of tokens, of which they have `left` to come at most.
    pub(super) fn advance(&mut self, rows: &[&[u32]], left: usize) -> Scores {
        let decoder = self.decoder;
        if let Some((pass, recorded)) = &mut self.recording
            && decoder.admit_again(rows, &mut self.cache.borrow_mut(), pass)
        {
            return recorded.repeat().clone();
        }
        self.recording = None;
        let pass = decoder.admit(rows, &mut self.cache.borrow_mut());
        let single = rows.iter().all(|row| row.len() == 1);
        let mut step = self.step(pass.clone());
        // Once as it comes: it makes room in the cache.
        let scores = step();
        if self.records && single && left >= WORTH_RECORDING {
            let recorded = Recorded::new(&decoder.device(), step);
            self.lost = recorded.is_none();
            self.recording = recorded.map(|recorded| (pass, recorded));
        }
        scores
    }

    fn step(&self, pass: Pass) -> Box<dyn FnMut() -> Scores + 'a> {
        let (decoder, cache, only_best) = (self.decoder, self.cache.clone(), self.only_best);
        Box::new(move || {
            let hidden = decoder.run_pass(&pass, &mut cache.borrow_mut().layers);
            let [batch, seq, width] = hidden.dims();
            let last = hidden.slice([0..batch, seq - 1..seq, 0..width]).reshape([batch, width]);
            let logits = decoder.read_out(last);
            let best = only_best.then(|| kernels::argmax_rows(logits.clone()));
            Scores { logits, best }
        })
    }
}

impl Scores {
    /// With each row `times` times.
    pub(super) fn repeated(self, times: usize) -> Self {
        let [rows, vocab] = self.logits.dims();
        let logits = self.logits.reshape([rows, 1, vocab]).repeat_dim(1, times);
        let best = self
            .best
            .map(|best| best.reshape([rows, 1, 1]).repeat_dim(1, times).reshape([rows * times, 1]));
        Self { logits: logits.reshape([rows * times, vocab]), best }
    }
}
