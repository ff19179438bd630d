//! The dashboard's state: what is known of the run and what the user looks at.
//!
//! It changes by events and keys alone and knows no terminal and no clock; [`view`] draws it.

pub mod chart;
mod keys;
mod session;
mod view;

use std::collections::VecDeque;

use rekindle_recipe::{Event, History};

use crate::words;

pub use session::Session;

/// Lines of the event list that are kept.
const KEPT: usize = 500;

/// What the main area shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Loss of updates and evaluations.
    Loss,
    /// Learning rate of updates.
    LearningRate,
    /// Norm of the gradients before clipping.
    GradNorm,
    /// Target tokens a second.
    Speed,
    /// What happened.
    Events,
    /// Answers of the newest evaluation.
    Samples,
}

impl Pane {
    /// Every pane in the order of the tabs.
    pub const ALL: [Self; 6] =
        [Self::Loss, Self::LearningRate, Self::GradNorm, Self::Speed, Self::Events, Self::Samples];

    /// What its tab says.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::LearningRate => "Learning rate",
            Self::GradNorm => "Gradient norm",
            Self::Speed => "Tokens/s",
            Self::Events => "Events",
            Self::Samples => "Samples",
        }
    }

    /// Whether it is a curve.
    pub fn is_chart(self) -> bool {
        !matches!(self, Self::Events | Self::Samples)
    }
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The pane to the right.
    Next,
    /// The pane to the left.
    Previous,
    /// Earlier lines.
    Up,
    /// Later lines.
    Down,
    /// The list of keys.
    Help,
    /// Closing the list of keys.
    Close,
    /// The end of the run.
    Stop,
}

/// What the program is to do for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Save a checkpoint and stop.
    Stop,
    /// End at once and save nothing.
    Abort,
}

/// A run as its watcher sees it.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// What the events have told.
    pub history: History,
    /// Recent events in words, the newest last.
    pub log: VecDeque<String>,
    /// What the main area shows.
    pub pane: Pane,
    /// Lines that the list in the main area is moved away from its newest line.
    pub scroll: usize,
    /// Whether the keys are shown.
    pub help: bool,
    /// Whether the run was asked to stop.
    pub stopping: bool,
}

impl Dashboard {
    /// A dashboard of a run that has come as far as `history`.
    pub fn new(history: History) -> Self {
        let log = history.warnings.iter().map(|message| format!("warning: {message}")).collect();
        Self { history, log, pane: Pane::Loss, scroll: 0, help: false, stopping: false }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, event: &Event) {
        self.history.apply(event);
        if let Some(line) = words::event(event) {
            self.log.push_back(line);
            if self.log.len() > KEPT {
                self.log.pop_front();
            }
        }
    }

    /// Takes in a key.
    pub fn key(&mut self, key: Key) -> Option<Action> {
        match key {
            Key::Next => self.turn(1),
            Key::Previous => self.turn(Pane::ALL.len() - 1),
            // A list of events stands at its end, one of samples at its beginning.
            Key::Up | Key::Down if (key == Key::Up) == (self.pane != Pane::Samples) => {
                self.scroll = (self.scroll + 1).min(KEPT);
            }
            Key::Up | Key::Down => self.scroll = self.scroll.saturating_sub(1),
            Key::Help => self.help = !self.help,
            Key::Close => self.help = false,
            Key::Stop => return Some(self.stop()),
        }
        None
    }

    /// Notes that the run is asked to stop, once more if it was asked before.
    pub fn stop(&mut self) -> Action {
        match std::mem::replace(&mut self.stopping, true) {
            false => Action::Stop,
            true => Action::Abort,
        }
    }

    fn turn(&mut self, by: usize) {
        let at = Pane::ALL.iter().position(|pane| *pane == self.pane).unwrap_or(0);
        self.pane = Pane::ALL[(at + by) % Pane::ALL.len()];
        self.scroll = 0;
    }
}

#[cfg(test)]
mod tests;
