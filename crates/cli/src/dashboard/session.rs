//! The dashboard on a terminal: a thread of its own, so that drawing never holds up the training.

use std::io::{self, BufWriter, Stderr, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, event, execute};
use rekindle_recipe::{Event, History};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Action, Dashboard, keys, view};

/// Shortest time between two drawings.
const FRAME: Duration = Duration::from_millis(100);

/// Exit code of a run that was ended at once.
const ABORTED: i32 = 130;

/// A dashboard on standard error; the terminal is as it was once this is dropped.
pub struct Session {
    /// Taken when the run has ended, which ends the thread.
    events: Option<Sender<Event>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Session {
    /// Takes over the terminal.
    ///
    /// A first signal or key to stop puts a signal's number into `stop`, a second one ends the
    /// program.
    ///
    /// # Errors
    /// The terminal or the signals cannot be had.
    pub fn start(history: History, stop: Arc<AtomicUsize>, color: bool) -> Result<Self> {
        let listen = "cannot listen for signals";
        let signals = Signals::new([SIGINT, SIGTERM]).context(listen)?;
        for signal in [SIGINT, SIGTERM] {
            // Beside the dashboard's own ear: a run is stopped even where its dashboard has failed.
            signal_hook::flag::register_usize(signal, Arc::clone(&stop), signal as usize)
                .context(listen)?;
        }
        let (sender, receiver) = channel();
        let screen = Screen::open().context("cannot draw on the terminal; leave `--tui` out")?;
        let watch = Watch { dashboard: Dashboard::new(history), receiver, signals, stop, color };
        let thread = std::thread::Builder::new()
            .name("dashboard".to_owned())
            .spawn(move || watch.run(screen))
            .context("cannot start the dashboard's thread")?;
        Ok(Self { events: Some(sender), thread: Some(thread) })
    }

    /// Shows an event; never waits.
    pub fn event(&self, event: &Event) {
        if let Some(events) = &self.events {
            // A dashboard that has failed hears nothing more; the run goes on.
            let _ = events.send(event.clone());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.events = None;
        // A panic of the thread has had its say already.
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            let _ = writeln!(io::stderr(), "note: the dashboard ended early: {error}");
        }
    }
}

/// What the dashboard's thread works with.
struct Watch {
    dashboard: Dashboard,
    receiver: Receiver<Event>,
    signals: Signals,
    stop: Arc<AtomicUsize>,
    color: bool,
}

impl Watch {
    fn run(mut self, screen: Screen) -> io::Result<()> {
        let mut terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr())))?;
        let mut drawn: Option<Instant> = None;
        let mut changed = true;
        loop {
            let since = drawn.map_or(FRAME, |at| at.elapsed());
            if changed && since >= FRAME {
                let (dashboard, color) = (&self.dashboard, self.color);
                terminal.draw(|frame| view::draw(frame, dashboard, color))?;
                (drawn, changed) = (Some(Instant::now()), false);
            }
            let since = drawn.map_or(FRAME, |at| at.elapsed());
            let wait = FRAME.saturating_sub(since).max(Duration::from_millis(1));
            if event::poll(wait)? {
                let event = event::read()?;
                if let Some(key) = keys::key(&event) {
                    let action = self.dashboard.key(key);
                    self.act(action, SIGINT, &screen);
                }
                changed = true;
            }
            if let Some(signal) = self.signals.pending().next() {
                let action = self.dashboard.stop();
                self.act(Some(action), signal, &screen);
                changed = true;
            }
            match self.hear() {
                None => return Ok(()),
                Some(heard) => changed |= heard,
            }
            if !screen.is_open() {
                return Ok(());
            }
        }
    }

    /// Takes in what has happened: whether anything has, `None` once the run has ended.
    fn hear(&mut self) -> Option<bool> {
        let mut heard = false;
        loop {
            match self.receiver.try_recv() {
                Ok(event) => self.dashboard.apply(&event),
                Err(TryRecvError::Empty) => return Some(heard),
                Err(TryRecvError::Disconnected) => return None,
            }
            heard = true;
        }
    }

    fn act(&self, action: Option<Action>, signal: i32, screen: &Screen) {
        match action {
            None => {}
            Some(Action::Stop) => self.stop.store(signal as usize, Ordering::SeqCst),
            Some(Action::Abort) => {
                screen.close();
                signal_hook::low_level::exit(ABORTED);
            }
        }
    }
}

/// The alternate screen in raw mode, until it is closed, dropped, or anything panics.
struct Screen(Arc<AtomicBool>);

impl Screen {
    fn open() -> io::Result<Self> {
        let screen = Self(Arc::new(AtomicBool::new(true)));
        enable_raw_mode()?;
        execute!(io::stderr(), EnterAlternateScreen, cursor::Hide)?;
        let open = Arc::clone(&screen.0);
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // What the panic says must land on the screen that stays.
            close(&open);
            earlier(info);
        }));
        Ok(screen)
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn close(&self) {
        close(&self.0);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

fn close(open: &AtomicBool) {
    if open.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs no restoring.
        let mut terminal: Stderr = io::stderr();
        let _ = execute!(terminal, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}
