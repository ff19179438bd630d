//! Event files as TensorBoard reads them.

mod crc;
mod event;
mod hparams;
mod record;
mod wire;
#[cfg(test)]
mod reader;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Delivery, RunStatus, TrackError, Tracker};

/// What the names of event files begin with, by which TensorBoard finds them.
const PREFIX: &str = "events.out.tfevents.";

/// How long events may stay in memory.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// Writes one event file, `events.out.tfevents.<unix seconds>.<host>.<pid>.<n>`.
///
/// Scalars are `simple_value`s, which every reader of event files knows; they are `f32`, so a
/// value beyond its range becomes infinite. Texts and settings carry the metadata of the plugins
/// `text` and `hparams`. TensorBoard shows the settings of the first call of
/// [`Tracker::params`] in a folder.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
}

impl TensorBoard {
    /// Opens a new event file in `folder`, which is made if it is missing.
    ///
    /// `first_step` is the first step that will be written. Where a run is resumed, TensorBoard
    /// drops what earlier files of the folder say of this step and later ones, because every file
    /// begins with a session mark that holds it. A new file sorts behind those that are there,
    /// even if the clock went back.
    pub fn open(folder: &Path, first_step: u64) -> Result<Self, TrackError> {
        fs::create_dir_all(folder).map_err(TrackError::io("make", folder))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = newest(folder).map_err(TrackError::io("list", folder))?;
        let seconds = newest.map_or(now.as_secs(), |newest| now.as_secs().max(newest + 1));
        let (path, file) = create(folder, seconds)?;
        let mut board = Self { path, file: BufWriter::new(file), flushed: Instant::now() };
        board.write(&event::version(now.as_secs_f64()))?;
        board.write(&event::session_start(now.as_secs_f64(), first_step))?;
        board.flush()?;
        Ok(board)
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, event: &[u8]) -> Result<(), TrackError> {
        let written = record::write(&mut self.file, event);
        written.map_err(TrackError::io("write", &self.path))?;
        if self.flushed.elapsed() >= FLUSH_EVERY { self.flush() } else { Ok(()) }
    }
}

impl Tracker for TensorBoard {
    fn params(&mut self, params: &[(String, String)]) -> Result<(), TrackError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.write(&hparams::session_start(now, params))?;
        self.flush()
    }

    fn scalars(&mut self, step: u64, time: f64, values: &[(&str, f64)]) -> Result<(), TrackError> {
        self.write(&event::scalars(time, step, values))
    }

    fn text(&mut self, step: u64, time: f64, tag: &str, text: &str) -> Result<(), TrackError> {
        self.write(&event::text(time, step, tag, text))
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        self.flushed = Instant::now();
        self.file.flush().map_err(TrackError::io("write", &self.path))
    }

    fn finish(&mut self, status: RunStatus, time: f64) -> Result<Delivery, TrackError> {
        // TensorBoard keeps the first end of a session, so a run that goes on has none yet.
        if status != RunStatus::Stopped {
            self.write(&hparams::session_end(time, status == RunStatus::Finished))?;
        }
        self.flush()?;
        self.file.get_ref().sync_all().map_err(TrackError::io("write", &self.path))?;
        Ok(Delivery::Complete)
    }
}

/// A file that no other writer has, of this process or of another one.
fn create(folder: &Path, seconds: u64) -> Result<(PathBuf, File), TrackError> {
    let process = std::process::id();
    let host = host();
    let mut n = 0;
    loop {
        let path = folder.join(format!("{PREFIX}{seconds:010}.{host}.{process}.{n}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(TrackError::io("make", &path)(error)),
        }
    }
}

/// The latest second among the names of the event files in a folder.
fn newest(folder: &Path) -> std::io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let seconds = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next());
        newest = newest.max(seconds.and_then(|seconds| seconds.parse().ok()));
    }
    Ok(newest)
}

/// The machine's name where the system keeps it in a file; it only tells files apart.
fn host() -> String {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let name = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = name.trim().chars().take_while(plain).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
