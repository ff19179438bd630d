//! The file that holds everything a run told, one JSON object a line.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::cursor::Cursor;
use super::entry::{Entry, PARAMS_A_LINE, Status, milliseconds};
use super::{Lock, RunInfo, names};
use crate::TrackError;

/// A spool being appended to.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    len: u64,
    /// Last step of each metric that an earlier part of the run told.
    told: HashMap<String, u64>,
    params: HashMap<String, String>,
}

/// Where the spool of a folder is.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("spool.jsonl")
}

/// Makes the folder and takes its lock, which ends with the last holder of the handle.
pub fn lock(folder: &Path) -> Result<Lock, TrackError> {
    fs::create_dir_all(folder).map_err(TrackError::io("make", folder))?;
    lock_existing(folder)
}

/// Takes the lock of a folder that is there.
pub fn lock_existing(folder: &Path) -> Result<Lock, TrackError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(TrackError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(file)),
        Err(TryLockError::WouldBlock) => Err(TrackError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(TrackError::io("lock", &path)(error)),
    }
}

/// Bytes behind the cursor.
pub fn pending(folder: &Path) -> Result<u64, TrackError> {
    let len = fs::metadata(path(folder)).map_or(0, |metadata| metadata.len());
    Ok(len.saturating_sub(Cursor::load(folder)?.offset))
}

impl Spool {
    /// Opens the spool of a folder, or begins it with the line of the run.
    ///
    /// A last line without its end was torn by a crash and is cut off, so that the next one starts
    /// a line of its own.
    pub fn open(folder: &Path, run: &RunInfo) -> Result<Self, TrackError> {
        let path = path(folder);
        let file = OpenOptions::new().create(true).append(true).read(true).open(&path);
        let file = file.map_err(TrackError::io("open", &path))?;
        let mut spool = Self { path, file, len: 0, told: HashMap::new(), params: HashMap::new() };
        spool.recall().map_err(TrackError::io("read", &spool.path))?;
        let sent = Cursor::load(folder)?.offset;
        if sent > spool.len {
            let problem =
                format!("holds {} bytes where {sent} have been sent; it was changed", spool.len);
            return Err(TrackError::Spool { path: spool.path, problem });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = milliseconds(now.as_secs_f64());
        let first = if spool.len == 0 {
            begin(run, now.as_nanos(), time_ms)
        } else {
            Entry::Status { status: Status::Running, time_ms }
        };
        spool.append(&[first])?;
        Ok(spool)
    }

    /// Appends lines with one write.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), TrackError> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).expect("entries are JSON");
            lines.push(b'\n');
        }
        if let Err(error) = self.file.write_all(&lines) {
            // Half a line would spoil the next one; where cutting fails too, reading skips both.
            drop(self.file.set_len(self.len));
            return Err(TrackError::io("write", &self.path)(error));
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Settings as lines: new ones as parameters, changed ones as tags.
    pub fn params(&mut self, params: &[(String, String)]) -> Vec<Entry> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for (key, value) in params {
            let (key, value) = names::param(key, value);
            match self.params.get(&key) {
                Some(before) if *before == value => {}
                Some(_) => changed.push(names::tag(&format!("changed.{key}"), &value)),
                None => {
                    self.params.insert(key.clone(), value.clone());
                    new.push((key, value));
                }
            }
        }
        let new = new.chunks(PARAMS_A_LINE).map(|values| Entry::Params { values: values.to_vec() });
        let changed =
            changed.chunks(PARAMS_A_LINE).map(|values| Entry::Tags { values: values.to_vec() });
        new.chain(changed).collect()
    }

    /// The values that an earlier part of the run has not told, under names that MLflow allows.
    pub fn new_values(
        &self,
        step: u64,
        values: &[(&str, f64)],
    ) -> impl Iterator<Item = (String, f64)> {
        let named = values.iter().map(|(key, value)| (names::name(key), *value));
        named.filter(move |(key, _)| self.told.get(key).is_none_or(|&told| step > told))
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Brings the file to disk.
    pub fn sync(&self) -> Result<(), TrackError> {
        self.file.sync_data().map_err(TrackError::io("write", &self.path))
    }

    /// A second handle, for a thread that syncs.
    pub fn handle(&self) -> Result<File, TrackError> {
        self.file.try_clone().map_err(TrackError::io("open", &self.path))
    }

    /// Reads what an earlier part of the run told and cuts off a torn line.
    fn recall(&mut self) -> std::io::Result<()> {
        let mut reader = BufReader::new(self.file.try_clone()?);
        reader.seek(SeekFrom::Start(0))?;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            self.len += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(Entry::Metrics { step, values, .. }) => {
                    for (key, _) in values {
                        let told = self.told.entry(key).or_default();
                        *told = step.max(*told);
                    }
                }
                Ok(Entry::Params { values }) => self.params.extend(values),
                _ => {}
            }
            line.clear();
        }
        self.file.set_len(self.len)
    }
}

fn begin(run: &RunInfo, nanoseconds: u128, time_ms: i64) -> Entry {
    // The hasher's keys come from the system's randomness: two runs of one moment differ.
    let spool_id = format!("{nanoseconds:x}-{:016x}", RandomState::new().hash_one(nanoseconds));
    Entry::Run {
        spool_id,
        experiment: run.experiment.clone(),
        run_name: run.run_name.clone(),
        time_ms,
        tags: run.tags.iter().map(|(key, value)| names::tag(key, value)).collect(),
    }
}

/// A line of a spool and where it ends.
#[derive(Debug)]
pub struct Line {
    pub text: Vec<u8>,
    pub end: u64,
}

/// Bytes that are read at once. No line that was written whole is as long.
const CHUNK: usize = 1 << 20;

/// The whole lines from an offset on, at most a mebibyte of them.
pub fn lines(file: &mut File, offset: u64) -> std::io::Result<Vec<Line>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(CHUNK as u64).read_to_end(&mut bytes)?;
    let mut lines = Vec::new();
    let mut end = offset;
    for text in bytes.split_inclusive(|&byte| byte == b'\n') {
        // What fills the chunk without an end is no line of ours; it is passed over in pieces.
        if text.ends_with(b"\n") || text.len() == CHUNK {
            end += text.len() as u64;
            lines.push(Line { text: text.to_vec(), end });
        }
    }
    Ok(lines)
}
