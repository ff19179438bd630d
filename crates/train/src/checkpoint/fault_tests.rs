//! Disks that refuse, at every operation of a save.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::toy::{Mlp, Recorder, plan, run, state};
use crate::{Observer, OnSaveError, Saving, StepReport, TrainError, TrainPlan};

const DROPOUT: f64 = 0.3;
const STEPS: u64 = 8;

/// Linux's numbers and what is said of them.
const REFUSALS: [(i32, &str); 4] = [
    (28, "free some space"),
    (5, "check the path and its disk"),
    (30, "make it writable"),
    (122, "free some of your quota"),
];

/// The real disk, except that it refuses operations `at` and on, before `until`.
///
/// It syncs nothing, so that hundreds of runs take no minute.
#[derive(Clone, Debug)]
struct Failing {
    done: Arc<AtomicUsize>,
    at: usize,
    until: usize,
    error: i32,
}

impl Failing {
    fn new(at: usize, until: usize, error: i32) -> Self {
        Self { done: Arc::default(), at, until, error }
    }

    fn pass(&self) -> io::Result<()> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        if (self.at..self.until).contains(&number) {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        Ok(())
    }
}

struct FailingFile(Box<dyn DiskFile>, Failing);

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let passed = self.1.pass();
        // A disk that fills up has taken a part.
        let taken = if passed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.0.write_all(taken)?;
        passed.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.1.pass()
    }
}

impl Disk for Failing {
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.pass()?;
        Ok(Box::new(FailingFile(RealDisk.create_file(path)?, self.clone())))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.pass().and_then(|()| RealDisk.create_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass().and_then(|()| RealDisk.rename(from, to))
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        self.pass()
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.pass().and_then(|()| RealDisk.remove_folder(path))
    }

    fn folders(&self, path: &Path) -> io::Result<Vec<String>> {
        self.pass().and_then(|()| RealDisk.folders(path))
    }
}

fn on(disk: Failing, on_error: OnSaveError) -> Saving {
    Saving { disk: Arc::new(disk), on_error, retry_every: Duration::from_millis(1) }
}

fn saving(run_dir: &Path, disk: Failing) -> TrainPlan {
    TrainPlan {
        saving: on(disk, OnSaveError::Stop),
        save_every: Some(2),
        keep_checkpoints: 1,
        ema_decay: Some(0.5),
        ..plan(run_dir, STEPS)
    }
}

fn healthy() -> Failing {
    Failing::new(0, 0, 0)
}

/// A run stopped after 4 steps, and the weights and averages of one that was not.
fn stopped(dir: &Path) -> (PathBuf, [Vec<u32>; 2]) {
    let whole = saving(&dir.join("whole"), healthy());
    let whole = run(state(DROPOUT), &[], &whole, &mut Recorder::default()).unwrap().state;
    let stopped = saving(&dir.join("stopped"), healthy());
    let mut recorder = Recorder { stop_after: Some(4), ..Recorder::default() };
    run(state(DROPOUT), &[], &stopped, &mut recorder).unwrap();
    (stopped.run_dir, [whole.policy.bits(), whole.averaged().bits()])
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn names(plan: &TrainPlan) -> Vec<String> {
    let mut names = disk::folders(&RealDisk, &plan.checkpoints_dir()).unwrap();
    names.sort();
    names
}

/// Goes on from the newest checkpoint, as a start does.
fn go_on(plan: &TrainPlan) -> Result<[Vec<u32>; 2], TrainError> {
    recover(&plan.checkpoints_dir()).unwrap();
    let found = latest(&plan.checkpoints_dir()).unwrap().expect("a checkpoint is left");
    assert!(found.warnings.is_empty() && found.saved.step >= 4, "{found:?}");
    let (state, _) = state(DROPOUT).restore(&found.path).unwrap();
    let state = run(state, &[], plan, &mut Recorder::default())?.state;
    Ok([state.policy.bits(), state.averaged().bits()])
}

/// Has the disk refuse at each operation in turn; how many there are.
fn refuse_each(until: impl Fn(usize) -> usize, error: i32, remedy: &str) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (begun, whole) = stopped(dir.path());
    for at in 0.. {
        let run_dir = dir.path().join(format!("run-{at}"));
        copy(&begun, &run_dir);
        let disk = Failing::new(at, until(at), error);
        let error = match go_on(&saving(&run_dir, disk)) {
            Ok(bits) => {
                assert_eq!(bits, whole);
                return at;
            }
            Err(error) => error,
        };
        assert_eq!(error.exit_code(), 6, "{error}");
        let told = error.to_string();
        let path = run_dir.join("checkpoints").display().to_string();
        assert!(told.contains(&path) && told.contains(remedy), "{told}");
        let plan = saving(&run_dir, healthy());
        if until(at) == at + 1 && !told.contains("cannot remove") {
            let names = names(&plan);
            assert!(names.iter().all(|name| step_of(name).is_some()), "{at}: {told} {names:?}");
        }
        assert_eq!(go_on(&plan).unwrap(), whole, "{at}: {told}");
        assert_eq!(names(&plan), ["step-000008"], "{at}: {told}");
        fs::remove_dir_all(run_dir).unwrap();
    }
    unreachable!("a save has an end")
}

#[test]
fn a_disk_that_refuses_one_operation_costs_no_checkpoint_and_leaves_nothing() {
    for (error, remedy) in REFUSALS {
        // Two saves of five files, and the removal of what they follow.
        assert!(refuse_each(|at| at + 1, error, remedy) > 40);
    }
}

#[test]
fn a_disk_that_refuses_everything_from_some_operation_on_costs_no_checkpoint() {
    for (error, remedy) in REFUSALS {
        assert!(refuse_each(|_| usize::MAX, error, remedy) > 40);
    }
}

#[test]
fn saving_a_step_again_never_costs_the_checkpoint_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, _) = stopped(dir.path());
    for until in [|at| at + 1, |_| usize::MAX] {
        for at in 0.. {
            let run_dir = dir.path().join("run");
            copy(&begun, &run_dir);
            let plan = saving(&run_dir, Failing::new(at, until(at), 28));
            let path = plan.checkpoint_dir(4);
            let (state, saved) = state(DROPOUT).restore(&path).unwrap();
            let result = state.save(&plan, saved.cursor);
            recover(&plan.checkpoints_dir()).unwrap();
            assert_eq!(verify(&path).unwrap(), saved, "{at}: {result:?}");
            assert_eq!(names(&plan), ["step-000004"], "{at}: {result:?}");
            fs::remove_dir_all(&run_dir).unwrap();
            if result.is_ok() {
                assert!(at > 20);
                break;
            }
        }
    }
}

#[test]
fn a_run_that_pauses_goes_on_once_the_disk_takes_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, whole) = stopped(dir.path());
    let run_dir = dir.path().join("run");
    copy(&begun, &run_dir);
    let disk = Failing::new(9, 40, 28);
    let mut plan = saving(&run_dir, disk);
    plan.saving.on_error = OnSaveError::Pause;
    let (state, _) = state(DROPOUT).restore(&plan.checkpoint_dir(4)).unwrap();
    let mut recorder = Recorder::default();
    let state = run(state, &[], &plan, &mut recorder).unwrap().state;
    assert_eq!([state.policy.bits(), state.averaged().bits()], whole);
    let [first, second] = recorder.warnings.as_slice() else { panic!("{:?}", recorder.warnings) };
    assert!(first.starts_with("step 6: cannot") && first.contains("tries again every 0.001 s"));
    assert!(second.contains("step 6: the checkpoint is saved after"), "{second}");
    assert_eq!(names(&plan), ["step-000008"]);
}

/// Asks to stop once it has been told of the pause for a while.
#[derive(Default)]
struct Impatient {
    stop: Arc<AtomicBool>,
    warnings: usize,
}

impl Observer<Mlp> for Impatient {
    fn on_step(&mut self, _report: &StepReport) {}

    fn evaluate(&mut self, _step: u64, _policy: &Mlp) -> Result<Option<f64>, TrainError> {
        Ok(None)
    }

    fn on_checkpoint(&mut self, _step: u64, _path: &Path) {}

    fn on_warning(&mut self, _message: &str) {
        self.warnings += 1;
        let stop = Arc::clone(&self.stop);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::SeqCst);
        });
    }

    fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

#[test]
fn a_run_that_pauses_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = saving(dir.path(), Failing::new(1, usize::MAX, 28));
    plan.saving.on_error = OnSaveError::Pause;
    plan.saving.retry_every = Duration::from_secs(600);
    let _turn = crate::toy::turn();
    let mut source = crate::toy::Rows { next: 0, broken: Vec::new() };
    let mut observer = Impatient::default();
    let began = Instant::now();
    let objective = crate::toy::SquaredError;
    let error = crate::fit(state(0.0), &objective, &mut source, &plan, &mut observer).unwrap_err();
    assert_eq!((error.exit_code(), observer.warnings), (6, 1));
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[cfg(unix)]
#[test]
fn links_planted_where_a_save_writes_are_neither_followed_nor_filled() {
    let dir = tempfile::tempdir().unwrap();
    let plan = saving(&dir.path().join("run"), healthy());
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), b"kept").unwrap();
    fs::create_dir_all(plan.checkpoints_dir()).unwrap();
    for name in [".saving-0", ".replaced-0", ".removing-0", "step-000002", "step-000008"] {
        std::os::unix::fs::symlink(&elsewhere, plan.checkpoints_dir().join(name)).unwrap();
    }
    run(state(0.0), &[], &plan, &mut Recorder::default()).unwrap();
    let inside: Vec<_> = fs::read_dir(&elsewhere).unwrap().collect();
    assert_eq!(inside.len(), 1);
    assert_eq!(fs::read(elsewhere.join("precious")).unwrap(), b"kept");
    assert_eq!(names(&plan), ["step-000008"]);
    verify(&plan.checkpoint_dir(8)).unwrap();
}
