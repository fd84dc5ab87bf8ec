//! The daemon: one event loop, on one thread, that brings the kernel to what the policy says.
//!
//! Whatever happens (a request, a signal, an interface that comes or goes) becomes an [`Event`],
//! and events are carried out one after the other. So there is one writer, and no lock.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

pub mod cut;
pub mod desired;
pub mod engine;
mod files;
mod foretold;
mod generations;
pub mod history;
mod memory;
mod notify;
pub mod numbering;
pub mod order;
pub mod own;
pub mod plan;
mod settings;
mod sources;
pub mod steps;
mod telling;
mod trial;
mod unlocks;
mod watch;
pub mod zones;

use self::{
    engine::Engine, order::Order, own::Connection, plan::Candidate, trial::Ended, unlocks::Unlocks,
    watch::Watch,
};
use crate::{
    config::Config,
    control::server,
    document::{Limits, Loaded},
    failure::{Exit, Failure},
    kernel::{self, Paths},
    state::{Store, Submission},
    view::{Applied, Audited, Counters, Detached, Grouping, History, Plan, Status},
};

/// The policy of an agent that nobody named one to.
pub const DEFAULT_POLICY: &str = "/etc/sg-agent/policy.d";

/// What the daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where things are pinned.
    pub bpffs: PathBuf,
    /// Where generations are remembered.
    pub state_dir: PathBuf,
    /// Where requests are taken.
    pub socket: PathBuf,
    /// The settings.
    pub config: Config,
    /// Why the settings are not those of the file: then they are the defaults, and no policy is read.
    pub unreadable: Option<Failure>,
    /// The policy, where the command line names one.
    pub policy: Option<PathBuf>,
}

/// Whom an answer goes to. A requester that has gone away is no error.
pub type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// Something that happened, or is asked for.
#[derive(Debug)]
pub enum Event {
    /// A policy is to be put in force.
    Apply(Submission, Terms, Reply<Applied>),
    /// Somebody asks what a policy would change.
    Plan(Submission, Reply<Plan>),
    /// Somebody asks what traffic seen under audit a policy, or the one in force, would drop.
    Audited(Option<Submission>, Reply<Audited>),
    /// The policy on trial is to stay: by whom.
    Confirm(String, Reply<Applied>),
    /// An older policy is to come back: of which generation, and on which terms.
    Rollback(Option<u64>, Terms, Reply<Applied>),
    /// Somebody asks which generations there were.
    History(Reply<History>),
    /// The policy is to be read again: by SIGHUP, where nobody waits for an answer.
    Reload(Option<Reply<Applied>>),
    /// One interface, or all, are to be left alone.
    Detach(Option<String>, Reply<Detached>),
    /// Somebody asks how things are.
    Status(Reply<Status>),
    /// Somebody asks for counters.
    Counters(Grouping, Option<String>, Reply<Counters>),
    /// Somebody asks for what `status` and `counters` tell, as text for a monitoring system.
    Metrics(Reply<String>),
    /// Interfaces or addresses have changed.
    InterfacesChanged,
    /// Files that the policy is read from have changed.
    FilesChanged,
    /// It is time to look whether all is as it was left.
    Look,
    /// SIGTERM or SIGINT.
    Shutdown,
}

/// On which terms a policy is to be put in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Who asks for it.
    pub author: String,
    /// The former policy comes back unless this one is confirmed in time.
    pub confirm_within: Option<Duration>,
    /// The asker's own connection, which must not be cut.
    pub own: Option<Connection>,
}

/// How long after a failed attach the next attempt is made.
const RETRY: Duration = Duration::from_secs(5);

/// Runs the daemon until it is asked to end. Enforcement goes on after that.
///
/// # Errors
///
/// It cannot start: another agent runs, the kernel refuses, or there is no valid policy and none
/// was ever in force.
pub fn run(options: Options) -> Result<(), Failure> {
    if let Err(error) = kernel::raise_descriptor_limit() {
        warn!("the number of open files stays as low as it is: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the event loop", &error))?;
    runtime.block_on(Agent::start_and_serve(options))
}

struct Agent {
    engine: Engine,
    watch: Watch,
    started: Timestamp,
    last_error: Option<Failure>,
    /// What the policy's files say was refused.
    are_files_refused: bool,
    retry: Option<Instant>,
    /// When files whose policy could not be written down are tried again.
    rewrite: Option<Instant>,
    look: Instant,
    unlocks: Unlocks,
}

impl Agent {
    async fn start_and_serve(options: Options) -> Result<(), Failure> {
        let store = Store::new(&options.state_dir).lock().map_err(Failure::state)?;
        if !store.is_there() {
            error!("{} is not there and cannot be made: nothing is kept", options.state_dir.display());
        }
        let listener = server::listen(&options.socket)?;
        let (sender, mut events) = mpsc::channel(64);
        // Watching begins before the first look at the interfaces, so that no change is missed.
        sources::signals(&sender)?;
        sources::interfaces(&sender)?;

        let (sizes, settings) = settings::of(&options.config);
        let engine = Engine::open(Paths { bpffs: options.bpffs.clone() }, sizes, settings, store)?;
        let mut agent = Self {
            engine,
            watch: Watch::new(files::policy_path(&options), options.config.watch),
            started: Timestamp::now(),
            last_error: None,
            are_files_refused: false,
            retry: None,
            rewrite: None,
            look: Instant::now(),
            unlocks: Unlocks::default(),
        };
        agent.start(options.unreadable.clone())?;
        agent.unlocks.look(&agent.engine);
        let serving = server::serve(options.socket.clone(), listener, sender.clone());
        agent.say_ready(&options);
        notify::ready(&agent.summary());
        notify::watchdog();

        agent.serve(&mut events).await;
        notify::stopping();
        serving.abort();
        if let Err(error) = std::fs::remove_file(&options.socket) {
            warn!("the socket {} stays: {error}", options.socket.display());
        }
        info!("ended; enforcement goes on");
        Ok(())
    }

    /// Puts the first policy in force: the one that is named, else the last good one, whatever it was
    /// that made the named one unusable.
    fn start(&mut self, unreadable: Option<Failure>) -> Result<(), Failure> {
        // Also where a trial goes on: what the files say from then on is news.
        let loaded = self.watch.read();
        match self.engine.resume_trial() {
            Ok(true) => {
                unreadable.iter().for_each(|failure| self.refuse(failure));
                return Ok(());
            }
            Ok(false) => {}
            Err(failure) => {
                self.refuse(&failure);
                self.engine.forget_trial();
            }
        }
        let order = Order::event("the agent was started");
        let is_awaited = unreadable.is_none() && self.watch.policy().is_none_or(files::is_empty);
        let named = match unreadable {
            Some(failure) => Some(Err(failure)),
            None => loaded.map(|loaded| self.read_files(loaded).and_then(|candidate| self.wanted(candidate))),
        };
        let mut sound = None;
        let refused = match named {
            Some(Ok(candidate)) => match self.engine.apply(candidate.clone(), &order) {
                Ok(_) => return Ok(()),
                Err(failure) => {
                    sound = Some(candidate);
                    self.await_disk();
                    Some(failure)
                }
            },
            Some(Err(failure)) => Some(failure),
            None => None,
        };
        let order = order.even_unwritten();
        let Some(last_good) = self.engine.last_good() else {
            return match refused {
                Some(failure)
                    if self.rewrite.is_some()
                        && let Some(sound) = sound =>
                {
                    // Without it nothing would be enforced. What is enforced and nobody remembers may be
                    // another policy, which whoever cannot write must not take the place of.
                    if self.engine.generation() == 0 || self.engine.is_enforced(&sound) {
                        return self.engine.apply(sound, &order).map(drop);
                    }
                    self.refuse(&failure);
                    self.are_files_refused = true;
                    warn!("what is enforced stays, and nobody knows what it says");
                    Ok(())
                }
                Some(failure) if !is_awaited => Err(failure),
                _ => {
                    warn!("there is no policy yet: nothing is enforced until there is one");
                    Ok(())
                }
            };
        };
        if let Some(failure) = refused {
            self.refuse(&failure);
            self.are_files_refused = true;
            warn!("the last good policy stays in force");
        }
        self.engine.apply(last_good, &order).map(drop)
    }

    /// The one place where events are carried out.
    async fn serve(&mut self, events: &mut mpsc::Receiver<Event>) {
        loop {
            // Once the answer to the last event is on its way.
            yield_now().await;
            self.engine.tidy();
            self.retry = match self.engine.problems() {
                [] => None,
                _ => self.retry.filter(|at| *at > Instant::now()).or(Some(Instant::now() + RETRY)),
            };
            let trial = self.engine.confirm_by().map(|(at, _)| at.into());
            let due = [self.retry, self.rewrite, trial].into_iter().flatten().min();
            let event = tokio::select! {
                event = events.recv() => event,
                () = sleep_until(due.unwrap_or(self.look).min(self.look)) => match due {
                    Some(at) if at <= Instant::now() => Some(Event::InterfacesChanged),
                    _ => Some(Event::Look),
                },
                // Nothing takes the place of a policy on trial: files wait until it is over.
                () = self.watch.changed(), if trial.is_none() => Some(Event::FilesChanged),
            };
            self.look_at_trial();
            self.unlocks.look(&self.engine);
            match event {
                None | Some(Event::Shutdown) => return,
                Some(event) => self.carry_out(event),
            }
            if self.rewrite.is_some_and(|at| at <= Instant::now()) {
                self.try_files_again();
            }
            if self.look <= Instant::now() {
                self.look = Instant::now() + self.engine.look();
            }
        }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Apply(submission, terms, reply) => {
                let result = read(submission.load(&Limits::default()), "apply the policy")
                    .and_then(|candidate| self.apply(candidate, terms));
                answer(reply, result);
            }
            Event::Plan(submission, reply) => {
                let result = read(submission.load(&Limits::default()), "plan the policy")
                    .and_then(|candidate| self.engine.plan(&candidate, engine::LISTED));
                answer(reply, result);
            }
            Event::Audited(submission, reply) => {
                let candidate = submission
                    .map(|submission| read(submission.load(&Limits::default()), "plan the policy"))
                    .transpose();
                answer(reply, candidate.and_then(|candidate| self.engine.audited(candidate.as_ref())));
            }
            Event::Confirm(author, reply) => {
                let result = self.engine.confirm();
                if result.is_ok() {
                    info!("{author} has confirmed the policy");
                }
                answer(reply, self.told(result));
            }
            Event::Rollback(generation, terms, reply) => {
                let result = self.rollback(generation, terms);
                answer(reply, self.told(result));
            }
            Event::History(reply) => answer(reply, self.history()),
            Event::Reload(reply) => {
                notify::reloading();
                let result = self.reload();
                notify::ready(&self.summary());
                if let Some(reply) = reply {
                    answer(reply, result);
                }
            }
            Event::Detach(interface, reply) => {
                let result = match interface {
                    Some(name) => self.engine.detach(&name),
                    None => self.engine.detach_all(),
                };
                notify::status(&self.summary());
                answer(reply, result);
            }
            Event::Status(reply) => answer(reply, self.status()),
            Event::Counters(by, interface, reply) => answer(reply, self.counters(by, interface.as_deref())),
            Event::Metrics(reply) => answer(reply, self.metrics()),
            Event::InterfacesChanged => {
                if let Err(failure) = self.engine.follow() {
                    self.refuse(&failure);
                }
            }
            Event::FilesChanged => self.follow_files(),
            // The loop looks after every event, and ends before it comes here.
            Event::Look | Event::Shutdown => {}
        }
    }

    fn apply(&mut self, candidate: Candidate, terms: Terms) -> Result<Applied, Failure> {
        self.foretold(&candidate.clone(), |agent| agent.change(candidate, "apply", terms))
    }

    fn change(&mut self, candidate: Candidate, cause: &str, terms: Terms) -> Result<Applied, Failure> {
        let Terms { author, confirm_within, own } = terms;
        let order = Order::request(author, cause.to_owned(), own);
        let result = match confirm_within {
            Some(within) => self.engine.try_out(candidate, within, &Order { own: None, ..order }),
            None => self.engine.apply(candidate, &order),
        };
        self.told(result)
    }

    /// A policy that nobody asks for by name, unless it was on trial and nobody confirmed it.
    fn wanted(&self, candidate: Candidate) -> Result<Candidate, Failure> {
        match self.engine.refusal(&candidate) {
            Some(failure) => Err(failure),
            None => Ok(candidate),
        }
    }

    /// Ends a trial whose time has passed.
    fn look_at_trial(&mut self) {
        match self.engine.look_at_trial() {
            Ok(Ended::Not) => {}
            Ok(Ended::Unconfirmed) => {
                let why = "it was not confirmed in time; the former policy is in force again";
                self.refuse(&Failure::new(Exit::Failed, "keep the policy", why));
                notify::status(&self.summary());
            }
            Err(failure) => self.refuse(&failure),
        }
    }

    /// Keeps what became of a change, for `status`.
    fn told(&mut self, result: Result<Applied, Failure>) -> Result<Applied, Failure> {
        match &result {
            Ok(_) => {
                self.last_error = None;
                self.rewrite = None;
            }
            Err(failure) => self.refuse(failure),
        }
        notify::status(&self.summary());
        result
    }

    /// Logs why a change was refused, and keeps it for `status`.
    fn refuse(&mut self, failure: &Failure) {
        for diagnostic in &failure.diagnostics {
            error!("{diagnostic}");
        }
        error!("{failure}");
        self.last_error = Some(failure.clone());
    }

    fn say_ready(&self, options: &Options) {
        let line = format!("sg-agent: ready: {}, requests at {}\n", self.summary(), options.socket.display());
        // Whoever closed the stream does not want to know.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// The failure of a question about what is enforced, when nothing is.
#[must_use]
pub fn nothing_enforced(what: &str) -> Failure {
    Failure::new(Exit::Failed, what, "nothing is enforced")
        .with_remedy("start the agent with a policy, or point --bpffs to the one that runs")
}

fn answer<T>(reply: Reply<T>, result: Result<T, Failure>) {
    // A requester that has gone away is no error.
    let _ = reply.send(result);
}

/// The policy of what was read, or a failure with all that is wrong with it.
///
/// # Errors
///
/// The policy is not valid.
pub fn read(loaded: Loaded, what: &str) -> Result<Candidate, Failure> {
    let errors = loaded.errors.len();
    Candidate::of(loaded).map_err(|diagnostics| {
        let why = match errors {
            1 => "it has an error".to_owned(),
            _ => format!("it has {errors} errors"),
        };
        Failure::new(Exit::Invalid, what, why)
            .with_remedy("nothing was changed; correct it and try again")
            .with_diagnostics(diagnostics.iter().map(ToString::to_string).collect())
    })
}
