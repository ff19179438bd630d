//! Several trackers as one that cannot fail.

use std::fmt;

use crate::{Delivery, RunStatus, TrackError, Tracker};

/// Told the name of a tracker and what went wrong with it.
type Warn = Box<dyn FnMut(&str, &TrackError) + Send>;

/// Several trackers; one that fails is left out from then on, with one warning.
pub struct Trackers {
    members: Vec<(String, Box<dyn Tracker>)>,
    warn: Warn,
}

impl Trackers {
    /// No tracker yet. `warn` gets the name of a tracker that fails, and its error.
    pub fn new(warn: impl FnMut(&str, &TrackError) + Send + 'static) -> Self {
        Self { members: Vec::new(), warn: Box::new(warn) }
    }

    /// Adds a tracker under the name that warnings give it.
    pub fn push(&mut self, name: impl Into<String>, tracker: impl Tracker + 'static) {
        self.members.push((name.into(), Box::new(tracker)));
    }

    /// True if nobody listens.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// [`Tracker::params`] of each.
    pub fn params(&mut self, params: &[(String, String)]) {
        self.each(|tracker| tracker.params(params));
    }

    /// [`Tracker::scalars`] of each.
    pub fn scalars(&mut self, step: u64, time: f64, values: &[(&str, f64)]) {
        self.each(|tracker| tracker.scalars(step, time, values));
    }

    /// [`Tracker::text`] of each.
    pub fn text(&mut self, step: u64, time: f64, tag: &str, text: &str) {
        self.each(|tracker| tracker.text(step, time, tag, text));
    }

    /// [`Tracker::flush`] of each.
    pub fn flush(&mut self) {
        self.each(|tracker| tracker.flush());
    }

    /// [`Tracker::finish`] of each; returns the names of those with something left to send.
    pub fn finish(&mut self, status: RunStatus, time: f64) -> Vec<(String, Delivery)> {
        let mut deliveries = Vec::new();
        let warn = &mut self.warn;
        for (name, tracker) in &mut self.members {
            match tracker.finish(status, time) {
                Ok(Delivery::Complete) => {}
                Ok(pending) => deliveries.push((name.clone(), pending)),
                Err(error) => warn(name, &error),
            }
        }
        deliveries
    }

    fn each(&mut self, mut tell: impl FnMut(&mut dyn Tracker) -> Result<(), TrackError>) {
        let warn = &mut self.warn;
        self.members.retain_mut(|(name, tracker)| match tell(tracker.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                warn(name, &error);
                false
            }
        });
    }
}

impl fmt::Debug for Trackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.members.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Trackers").field("members", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Counts what it is told, and fails from its second scalars on.
    struct Fragile(Arc<Mutex<Vec<u64>>>, Option<u64>);

    impl Tracker for Fragile {
        fn params(&mut self, _: &[(String, String)]) -> Result<(), TrackError> {
            Ok(())
        }

        fn scalars(&mut self, step: u64, _: f64, _: &[(&str, f64)]) -> Result<(), TrackError> {
            if self.1.is_some_and(|limit| step > limit) {
                return Err(TrackError::InUse { path: "lock".into() });
            }
            self.0.lock().unwrap().push(step);
            Ok(())
        }

        fn text(&mut self, _: u64, _: f64, _: &str, _: &str) -> Result<(), TrackError> {
            Ok(())
        }

        fn flush(&mut self) -> Result<(), TrackError> {
            Ok(())
        }

        fn finish(&mut self, _: RunStatus, _: f64) -> Result<Delivery, TrackError> {
            Ok(Delivery::Pending { bytes: 7 })
        }
    }

    #[test]
    fn a_tracker_that_fails_is_warned_of_once_and_the_others_go_on() {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&warnings);
        let warn = move |name: &str, _: &TrackError| seen.lock().unwrap().push(name.to_owned());
        let mut trackers = Trackers::new(warn);
        let (frail, sound) = (Arc::default(), Arc::default());
        trackers.push("frail", Fragile(Arc::clone(&frail), Some(1)));
        trackers.push("sound", Fragile(Arc::clone(&sound), None));
        for step in 1..=4 {
            trackers.scalars(step, 0.0, &[("loss", 1.0)]);
        }
        assert_eq!(*frail.lock().unwrap(), [1]);
        assert_eq!(*sound.lock().unwrap(), [1, 2, 3, 4]);
        assert_eq!(*warnings.lock().unwrap(), ["frail"]);
        let left = trackers.finish(RunStatus::Finished, 0.0);
        assert_eq!(left, [("sound".to_owned(), Delivery::Pending { bytes: 7 })]);
    }
}
