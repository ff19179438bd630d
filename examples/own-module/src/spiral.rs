//! Points on three arms of a spiral, and the order in which they are trained on.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use rekindle_train::{Cursor, SourceError, Step, StepSource};

/// Arms of the spiral.
pub const ARMS: usize = 3;

/// Points of each arm that are trained on; as many lie between them and are held out.
const POINTS: usize = 128;

/// Points of a step, and of one forward pass.
const BATCH: usize = 64;
const MICRO: usize = 32;

/// Points `[points, 2]` and the arm of each `[points]`.
#[derive(Clone, Debug)]
pub struct Points {
    pub x: Tensor<2>,
    pub arm: Tensor<1, Int>,
}

impl Points {
    /// The points at `places`: arm and distance from the middle, 0 to 1.
    fn new(places: &[(usize, f32)], device: &Device) -> Self {
        let flat: Vec<f32> = places
            .iter()
            .flat_map(|&(arm, distance)| {
                let turn = std::f32::consts::TAU * (arm as f32 / ARMS as f32 + 0.6 * distance);
                [2.0 * distance * turn.cos(), 2.0 * distance * turn.sin()]
            })
            .collect();
        let arms: Vec<i32> = places.iter().map(|&(arm, _)| arm as i32).collect();
        Self {
            x: Tensor::<1>::from_floats(flat.as_slice(), device).reshape([places.len(), 2]),
            arm: Tensor::from_ints(arms.as_slice(), device),
        }
    }

    pub fn len(&self) -> usize {
        self.x.dims()[0]
    }
}

/// An endless stream of steps over the points, in an order that any place can be found in again.
pub struct Spiral {
    device: Device,
    places: Vec<(usize, f32)>,
    /// Points handed out so far.
    next: u64,
}

impl Spiral {
    pub fn new(device: &Device) -> Self {
        // A step as long as the golden ratio of the arm scatters neighbours over the batches.
        let distance = |index: usize| ((index as f32 * 0.618_034) % 1.0).max(0.05);
        let places = (0..POINTS * ARMS).map(|index| (index % ARMS, distance(index / ARMS)));
        Self { device: device.clone(), places: places.collect(), next: 0 }
    }

    /// Points between those that are trained on.
    pub fn held_out(&self) -> Points {
        let between = |index: usize| 0.05 + 0.95 * (index as f32 + 0.5) / POINTS as f32;
        let places: Vec<_> =
            (0..POINTS * ARMS).map(|index| (index % ARMS, between(index / ARMS))).collect();
        Points::new(&places, &self.device)
    }
}

impl<M: Module> StepSource<M, Points> for Spiral {
    fn next_step(&mut self, _: &M) -> Result<Option<Step<Points>>, SourceError> {
        let rows = (self.next..self.next + BATCH as u64)
            .map(|index| self.places[index as usize % self.places.len()])
            .collect::<Vec<_>>();
        self.next += BATCH as u64;
        let micro = rows.chunks(MICRO).map(|rows| Points::new(rows, &self.device));
        Ok(Some(Step { micro: micro.collect() }))
    }

    fn halve(&self, batch: &Points) -> Option<[Points; 2]> {
        let middle = batch.len() / 2;
        let part = |from: usize, to: usize| Points {
            x: batch.x.clone().narrow(0, from, to - from),
            arm: batch.arm.clone().narrow(0, from, to - from),
        };
        (middle > 0).then(|| [part(0, middle), part(middle, batch.len())])
    }

    fn cursor(&self) -> Cursor {
        let length = self.places.len() as u64;
        Cursor { epoch: self.next / length, row: self.next % length }
    }

    fn seek(&mut self, cursor: Cursor) -> Result<(), SourceError> {
        self.next = cursor.epoch * self.places.len() as u64 + cursor.row;
        Ok(())
    }
}
