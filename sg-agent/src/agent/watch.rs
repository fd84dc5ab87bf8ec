//! Reads the policy from its files, and tells when they say something else.
//!
//! The kernel tells of changes (`inotify`) in the folders that matter (`places`). A change is looked at
//! when it is over (`pending`), and read whole. Where the kernel does not tell, and now and then in any
//! case, the files are compared with what they were (`fingerprint`). What is done with a policy, valid
//! or not, is the event loop's business.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    path::{self, Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    document::{self, Disk, Files, Limits, Loaded},
    state::Submission,
};

mod fingerprint;
mod inotify;
mod pending;
mod places;

use self::{
    fingerprint::Fingerprint,
    inotify::{Inotify, InotifyError, Notice},
    pending::Pending,
};

/// How often the files are compared with what they were, beside what the kernel tells: network file
/// systems do not tell what other machines do.
const NOW_AND_THEN: Duration = Duration::from_secs(30);
/// How often where the kernel does not tell.
const OFTEN: Duration = Duration::from_secs(2);
/// How often files are read that change meanwhile, before that waits for another look.
const TRIES: usize = 3;
/// After how long it is told that they never stay as they are.
const RESTLESS: Duration = Duration::from_secs(10);

/// The files that the policy is read from.
pub(super) struct Watch {
    policy: Option<PathBuf>,
    is_on: bool,
    /// The list files that the last reading asked for, there or not.
    lists: BTreeSet<PathBuf>,
    open: fn() -> Result<Inotify, InotifyError>,
    inotify: Option<Inotify>,
    /// Why the kernel does not tell.
    trouble: Option<String>,
    /// The files when they were last read.
    seen: Fingerprint,
    /// What they said.
    said: Option<Said>,
    pending: Option<Pending>,
    /// Since when no reading has found them as they stay.
    restless: Option<Instant>,
    next_comparison: Instant,
}

/// What files say: the texts, and what is wrong with them.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    digest: String,
    errors: Vec<String>,
}

impl Said {
    fn of(loaded: &Loaded) -> Self {
        let errors = loaded.errors.iter().map(ToString::to_string).collect();
        Self { digest: Submission::of(loaded.sources.clone(), loaded.documents).digest(), errors }
    }
}

impl Watch {
    /// Of the policy at `policy`, where there is one; only read on demand unless `is_on`.
    pub(super) fn new(policy: Option<PathBuf>, is_on: bool) -> Self {
        Self {
            is_on: is_on && policy.is_some(),
            policy,
            lists: BTreeSet::new(),
            open: Inotify::open,
            inotify: None,
            trouble: None,
            seen: Fingerprint::default(),
            said: None,
            pending: None,
            restless: None,
            next_comparison: Instant::now(),
        }
    }

    /// Where the policy is read from.
    pub(super) fn policy(&self) -> Option<&Path> {
        self.policy.as_deref()
    }

    /// Whether changes are noticed.
    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// What keeps changes from being noticed at once.
    pub(super) fn problem(&self) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(format!("the policy's files are compared every {} s: {trouble}", OFTEN.as_secs()));
        }
        let lasting = self.restless?.elapsed();
        (lasting >= RESTLESS).then(|| {
            let seconds = lasting.as_secs();
            format!("the policy's files change whenever they are read, for {seconds} s; what they say now is not in force")
        })
    }

    /// Reads the policy as it is now; nothing where none was named.
    pub(super) fn read(&mut self) -> Option<Loaded> {
        self.pending = None;
        let loaded = self.read_whole()?;
        self.said = Some(Said::of(&loaded));
        self.restless = None;
        Some(loaded)
    }

    /// Reads the policy if it says something else than when it was last read. To be called when
    /// [`Self::changed`] returns; what is still changing is left to the next time.
    pub(super) fn look(&mut self) -> Option<Loaded> {
        self.take_notices();
        if self.pending.as_ref().is_some_and(|pending| pending.due() > Instant::now()) {
            return None;
        }
        self.pending = None;
        let loaded = self.read_whole()?;
        if self.pending.is_some() {
            debug!("the policy's files changed while they were read");
            self.restless.get_or_insert_with(Instant::now);
            return None;
        }
        self.restless = None;
        let said = Said::of(&loaded);
        if self.said.as_ref() == Some(&said) {
            debug!("the policy's files say what they said");
            return None;
        }
        self.said = Some(said);
        Some(loaded)
    }

    /// Waits until the files have changed, and the change is over. May be given up at any time and
    /// begun again.
    pub(super) async fn changed(&mut self) {
        if !self.is_on {
            return std::future::pending().await;
        }
        loop {
            let due = self.pending.as_ref().map(Pending::due);
            if due.is_some_and(|due| due <= Instant::now()) {
                return;
            }
            let wake = due.map_or(self.next_comparison, |due| due.min(self.next_comparison));
            tokio::select! {
                () = readable(self.inotify.as_ref()) => self.take_notices(),
                () = sleep_until(wake) => {}
            }
            if self.next_comparison <= Instant::now() {
                self.compare();
            }
        }
    }

    /// Reads the policy. If something changed meanwhile, that is pending afterwards.
    fn read_whole(&mut self) -> Option<Loaded> {
        let policy = self.policy.clone()?;
        let mut tries = 0;
        loop {
            tries += 1;
            // What is known to matter is guarded before it is read.
            self.guard(&policy);
            let mut before = Fingerprint::of_documents(&policy);
            let asked = Asked::default();
            let loaded = document::load_with(std::slice::from_ref(&policy), &asked, &Limits::default());
            let asked = asked.0.take();
            self.lists = asked.paths();
            before.extend(asked);
            // Whether there is more that matters has shown only now.
            let is_news = self.guard(&policy);
            self.seen = Fingerprint::of(&policy, &self.lists);
            let is_whole = !is_news && self.seen == before;
            if is_whole || tries == TRIES {
                if !is_whole {
                    self.touch(Instant::now());
                }
                self.take_notices();
                self.next_comparison = Instant::now() + self.interval();
                return Some(loaded);
            }
        }
    }

    /// Has the kernel tell of changes from now on. Whether something may have happened unseen.
    fn guard(&mut self, policy: &Path) -> bool {
        if !self.is_on {
            return false;
        }
        match self.try_guard(policy) {
            Ok(is_news) => {
                if self.trouble.take().is_some() {
                    info!("the policy's files are watched");
                }
                is_news
            }
            Err(error) => {
                let trouble = match error.remedy() {
                    Some(remedy) => format!("{error}; {remedy}"),
                    None => error.to_string(),
                };
                if self.trouble.as_ref() != Some(&trouble) {
                    warn!("the policy's files are not watched, but compared now and then: {trouble}");
                }
                self.trouble = Some(trouble);
                self.inotify = None;
                false
            }
        }
    }

    fn try_guard(&mut self, policy: &Path) -> Result<bool, InotifyError> {
        let is_new = self.inotify.is_none();
        let inotify = match &mut self.inotify {
            Some(inotify) => inotify,
            none => none.insert((self.open)()?),
        };
        let lists = self.lists.iter().map(|list| absolute(list)).collect();
        Ok(inotify.guard(&places::places(&absolute(policy), &lists))? || is_new)
    }

    fn take_notices(&mut self) {
        let Some(inotify) = &mut self.inotify else { return };
        let now = Instant::now();
        let notices = inotify.notices();
        if notices.is_empty() {
            return;
        }
        let pending = self.touch(now);
        for notice in notices {
            match notice {
                Notice::Changed => {}
                Notice::Writing(file) => pending.write(file),
                Notice::Settled(file) => pending.close(&file),
                Notice::Missed => pending.forget_writers(),
            }
        }
        pending.settle();
    }

    fn touch(&mut self, now: Instant) -> &mut Pending {
        let pending = self.pending.get_or_insert_with(|| Pending::new(now));
        pending.touch(now);
        pending
    }

    /// Compares the files with what they were.
    fn compare(&mut self) {
        let now = Instant::now();
        self.next_comparison = now + self.interval();
        let Some(policy) = self.policy.clone() else { return };
        let is_mended = self.trouble.is_some() && self.guard(&policy);
        if is_mended || Fingerprint::of(&policy, &self.lists) != self.seen {
            self.touch(now);
        }
    }

    const fn interval(&self) -> Duration {
        if self.trouble.is_some() { OFTEN } else { NOW_AND_THEN }
    }
}

/// The files on disk, which remember how each one was just before it was read.
#[derive(Default)]
struct Asked(RefCell<Fingerprint>);

impl Files for Asked {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.0.borrow_mut().add(path);
        Disk.read(path, limit)
    }
}

fn absolute(path: &Path) -> PathBuf {
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

async fn readable(inotify: Option<&Inotify>) {
    match inotify {
        Some(inotify) => inotify.readable().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    const A: &str = "version: 1\nprefix_lists: {l: {file: l.txt}}\n";
    const B: &str = "version: 1\n# otherwise\nprefix_lists: {l: {file: l.txt}}\n";
    /// What must happen happens within this time.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// What must not happen has not happened after this time.
    const SILENCE: Duration = Duration::from_millis(400);

    fn refused() -> Result<Inotify, InotifyError> {
        Err(InotifyError::Open(io::Error::from_raw_os_error(libc::EMFILE)))
    }

    /// Runs `test` on a policy that says [`A`], read once.
    fn watching(open: fn() -> Result<Inotify, InotifyError>, test: impl AsyncFnOnce(&Path, &mut Watch)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("p.yaml");
        fs::write(&policy, A).unwrap();
        fs::write(folder.path().join("l.txt"), "192.0.2.1\n").unwrap();
        runtime.block_on(async {
            let mut watch = Watch { open, ..Watch::new(Some(policy.clone()), true) };
            let loaded = watch.read().unwrap();
            assert_eq!(loaded.errors, []);
            test(folder.path(), &mut watch).await;
        });
    }

    async fn has_changed(watch: &mut Watch, patience: Duration) -> bool {
        tokio::time::timeout(patience, watch.changed()).await.is_ok()
    }

    #[test]
    fn a_reading_with_another_content_is_told_once() {
        watching(Inotify::open, async |folder, watch| {
            assert!(!has_changed(watch, SILENCE).await, "nothing happened");
            fs::write(folder.join("p.yaml"), B).unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert!(watch.look().is_some());
            assert!(!has_changed(watch, SILENCE).await, "it was looked at");

            fs::write(folder.join("p.yaml"), B).unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert!(watch.look().is_none(), "it says the same");

            fs::remove_file(folder.join("l.txt")).unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert_eq!(watch.look().unwrap().errors.len(), 1, "the list is missing");
            fs::write(folder.join("l.txt"), "192.0.2.1\n").unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert!(watch.look().unwrap().policy.is_some(), "and is there again");
        });
    }

    #[test]
    fn what_changes_anew_before_it_is_read_is_left_to_the_next_time() {
        use std::io::Write as _;
        watching(Inotify::open, async |folder, watch| {
            fs::write(folder.join("p.yaml"), B).unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            // All of this is valid, and half of it is not what is meant.
            let mut list = fs::File::create(folder.join("l.txt")).unwrap();
            list.write_all(b"192.0.2.1\n").unwrap();
            assert!(watch.look().is_none(), "somebody writes");
            assert!(!has_changed(watch, SILENCE).await, "somebody still writes");
            list.write_all(b"192.0.2.2\n").unwrap();
            drop(list);
            assert!(has_changed(watch, PATIENCE).await);
            let policy = watch.look().unwrap().policy.unwrap();
            assert_eq!(policy.prefix_lists[0].entries.len(), 2);
        });
    }

    #[test]
    fn what_is_read_on_demand_is_not_told_again() {
        watching(Inotify::open, async |folder, watch| {
            fs::write(folder.join("p.yaml"), B).unwrap();
            assert!(watch.read().unwrap().policy.is_some());
            // The kernel tells of it all the same.
            if has_changed(watch, SILENCE).await {
                assert!(watch.look().is_none());
            }
        });
    }

    #[test]
    fn files_that_never_stay_as_they_are_are_told_until_they_do() {
        watching(Inotify::open, async |folder, watch| {
            // Long enough for each reading to see it change.
            let list = folder.join("l.txt");
            fs::write(&list, "192.0.2.0/24\n".repeat(20_000)).unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert!(watch.look().is_some());
            let is_over = Arc::new(AtomicBool::new(false));
            let restless = std::thread::spawn({
                let is_over = Arc::clone(&is_over);
                move || {
                    while !is_over.load(Ordering::Relaxed) {
                        fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
                    }
                }
            });
            let deadline = Instant::now() + PATIENCE;
            while watch.restless.is_none() && Instant::now() < deadline {
                assert!(has_changed(watch, PATIENCE).await);
                watch.look();
            }
            is_over.store(true, Ordering::Relaxed);
            restless.join().unwrap();
            assert_eq!(watch.problem(), None, "not at once");
            *watch.restless.as_mut().unwrap() -= RESTLESS;
            let problem = watch.problem().unwrap();
            assert!(problem.contains("change whenever they are read, for 10 s"), "{problem}");
            assert!(has_changed(watch, PATIENCE).await);
            watch.look();
            assert_eq!(watch.problem(), None);
        });
    }

    #[test]
    fn without_the_kernel_files_are_compared_and_that_is_told() {
        watching(refused, async |folder, watch| {
            let problem = watch.problem().unwrap();
            for part in ["compared every 2 s", "inotify cannot be had", "fs.inotify.max_user_instances"] {
                assert!(problem.contains(part), "{problem}");
            }
            assert!(!has_changed(watch, OFTEN + SILENCE).await, "nothing happened");
            fs::write(folder.join("l.txt"), "192.0.2.2\n").unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert!(watch.look().is_some());
            // As soon as it can be had it is used, and looked at what happened before.
            watch.open = Inotify::open;
            fs::write(folder.join("p.yaml"), B).unwrap();
            assert!(has_changed(watch, PATIENCE).await);
            assert!(watch.look().is_some());
            assert_eq!(watch.problem(), None);
        });
    }

    #[test]
    fn who_does_not_want_it_reads_on_demand_alone() {
        watching(Inotify::open, async |folder, watch| {
            let mut off = Watch::new(watch.policy.clone(), false);
            assert!(off.read().is_some() && !off.is_on());
            fs::write(folder.join("p.yaml"), B).unwrap();
            assert!(!has_changed(&mut off, SILENCE).await);
            let mut none = Watch::new(None, true);
            assert!(none.read().is_none() && !none.is_on());
            assert!(!has_changed(&mut none, SILENCE).await);
        });
    }
}
