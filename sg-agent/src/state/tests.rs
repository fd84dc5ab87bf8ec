use super::*;

fn record(generation: u64, submission: &Submission) -> Record {
    Record {
        format: FORMAT,
        generation,
        applied: "2026-11-23T14:00:00Z".to_owned(),
        author: "root".to_owned(),
        cause: "a test".to_owned(),
        policy: submission.digest(),
        image: "00".repeat(32),
        next_number: 0,
        freed_numbers: vec![],
        rules: vec![],
        zones: vec![],
    }
}

fn submission(text: &str) -> Submission {
    Submission { documents: vec![Text { name: "p.yaml".to_owned(), text: text.to_owned() }], files: vec![] }
}

#[test]
fn a_second_agent_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::new(folder.path()).lock().unwrap();
    let refused = Store::new(folder.path()).lock().unwrap_err();
    assert!(matches!(refused, StateError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("another agent runs on"), "{refused}");
    drop(first);
    Store::new(folder.path()).lock().unwrap();
}

#[test]
fn what_is_written_is_read_again_and_the_newest_whole_record_counts() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let (a, b) = (submission("a"), submission("b"));
    locked.write(&record(3, &a), &a).unwrap();
    locked.write(&record(4, &b), &b).unwrap();
    let store = Store::new(folder.path());
    assert_eq!(store.record(3).unwrap(), Some(record(3, &a)));
    assert_eq!(store.record(5).unwrap(), None);
    assert_eq!(store.submission(&b.digest()).unwrap(), Some(b.clone()));
    let policies = |generation| store.policies_since(generation).unwrap().collect::<Vec<_>>();
    assert_eq!(policies(0), [b.clone(), a.clone()]);
    assert_eq!(policies(3), [a.clone(), b.clone()]);
    fs::write(store.record_path(4), "{").unwrap();
    assert!(matches!(store.record(4), Err(StateError::Damaged { .. })));
    assert_eq!(policies(4), std::slice::from_ref(&a));
    locked.forget(3).unwrap();
    assert_eq!(store.record(3).unwrap(), None);
}

#[test]
fn one_octet_that_changed_is_noticed_and_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let a = submission("allow: tcp/443");
    locked.write(&record(1, &a), &a).unwrap();
    drop(locked);
    let locked = Store::new(folder.path()).lock().unwrap();
    let store = locked.store();
    let damage = |path: PathBuf, from: &str, to: &str| {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
    };
    damage(store.policy_path(&a.digest()), "443", "445");
    let error = store.submission(&a.digest()).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    assert_eq!(store.policies_since(1).unwrap().count(), 0);
    locked.write(&record(1, &a), &a).unwrap();
    assert_eq!(store.submission(&a.digest()).unwrap(), Some(a));

    damage(store.record_path(1), "root", "boot");
    let error = store.record(1).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
}

#[test]
fn a_record_of_another_format_is_not_guessed_at() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let a = submission("a");
    locked.write(&Record { format: FORMAT + 1, ..record(1, &a) }, &a).unwrap();
    assert!(matches!(locked.store().record(1), Err(StateError::Format { .. })));
}

#[test]
fn pruning_keeps_the_newest_policies_and_what_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let policies: Vec<_> = (1..=20).map(|number| submission(&format!("policy {number}"))).collect();
    // One policy, then ten generations of another, then one generation of each of the rest.
    let of = |generation: usize| &policies[generation.saturating_sub(10).max(usize::from(generation > 1))];
    for generation in 1..=29 {
        locked.write(&record(generation as u64, of(generation)), of(generation)).unwrap();
    }
    locked.prune(1).unwrap();
    let expected: Vec<u64> = [1].into_iter().chain(14..=29).collect();
    assert_eq!(locked.store().recorded().unwrap(), expected, "sixteen policies, and what is in force");
    assert!(locked.store().submission(&policies[0].digest()).unwrap().is_some());
    for again in 30..=39 {
        locked.write(&record(again, of(29)), of(29)).unwrap();
    }
    locked.prune(39).unwrap();
    let expected: Vec<u64> = (14..=28).chain(36..=39).collect();
    assert_eq!(locked.store().recorded().unwrap(), expected, "events of one policy cost no other its place");
    assert!(locked.store().submission(&policies[0].digest()).unwrap().is_none());
}

#[test]
fn the_number_of_a_forgotten_generation_stays_used() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let a = submission("a");
    for generation in 1..=5 {
        locked.write(&record(generation, &a), &a).unwrap();
    }
    locked.forget_above(2, |generation| generation != 4).unwrap();
    let store = Store::new(folder.path());
    assert_eq!((store.recorded().unwrap(), store.highest().unwrap()), (vec![1, 2, 4], 5));
    locked.prune(4).unwrap();
    assert_eq!(store.highest().unwrap(), 5);
}

#[test]
fn the_policy_that_nobody_confirmed_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    locked.refuse(Some("abc")).unwrap();
    assert_eq!(Store::new(folder.path()).refused().unwrap().as_deref(), Some("abc"));
    locked.refuse(None).unwrap();
    locked.refuse(None).unwrap();
    assert_eq!(locked.store().refused().unwrap(), None);
}

#[test]
fn a_loss_of_power_at_any_octet_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let (a, b) = (submission("a"), submission("b"));
    locked.write(&record(1, &a), &a).unwrap();
    locked.write(&record(2, &b), &b).unwrap();
    let store = Store::new(folder.path());
    let written = fs::read(store.record_path(2)).unwrap();
    fs::remove_file(store.record_path(2)).unwrap();
    for length in 0..=written.len() {
        let begun = &written[..length];
        // Where the writer was, before its file was renamed.
        fs::write(store.record_path(2).with_extension("tmp"), begun).unwrap();
        assert_eq!((store.recorded().unwrap(), store.highest().unwrap()), (vec![1], 1), "{length}");
        assert_eq!(store.policies_since(1).unwrap().collect::<Vec<_>>(), std::slice::from_ref(&a));
        // What a disk leaves that does not keep the order.
        fs::write(store.record_path(2), begun).unwrap();
        assert_eq!(store.record(2).is_ok(), length + 1 >= written.len(), "{length}");
        assert_eq!(store.highest().unwrap(), 2, "its number may be in use");
        fs::remove_file(store.record_path(2)).unwrap();
    }
    locked.write(&record(2, &b), &b).unwrap();
    assert_eq!(store.record(2).unwrap(), Some(record(2, &b)));
}

#[test]
fn a_write_that_fails_leaves_nothing_behind_and_what_was_there() {
    type Fail = fn(&Path);
    let folder = tempfile::tempdir().unwrap();
    let locked = Store::new(folder.path()).lock().unwrap();
    let (a, b) = (submission("a"), submission("b"));
    locked.write(&record(1, &a), &a).unwrap();
    let store = locked.store().clone();
    let policy = store.policy_path(&b.digest());
    let full: Fail = |path| std::os::unix::fs::symlink("/dev/full", path.with_extension("tmp")).unwrap();
    let blocked: Fail = |path| fs::create_dir(path).unwrap();
    // (what fails, on which file, how)
    let rows: [(&str, PathBuf, Fail); 4] = [
        ("the policy is written", policy.clone(), full),
        ("the record is written", store.record_path(2), full),
        ("the policy is renamed", policy.clone(), blocked),
        ("the record is renamed", store.record_path(2), blocked),
    ];
    for (what, path, fail) in rows {
        fail(&path);
        let error = locked.write(&record(2, &b), &b).unwrap_err();
        assert!(matches!(error, StateError::Io { .. }), "{what}: {error}");
        assert_eq!(store.record(1).unwrap(), Some(record(1, &a)), "{what}");
        assert_eq!(store.policies_since(1).unwrap().next(), Some(a.clone()), "{what}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        for folder in [store.generations(), store.policies()] {
            let mut left = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let half = left.find(|path| path.extension() == Some(OsStr::new("tmp")));
            assert_eq!(half, None, "{what}");
        }
        let _ = fs::remove_file(&policy);
    }
    locked.write(&record(2, &b), &b).unwrap();
    assert_eq!(store.policies_since(2).unwrap().next(), Some(b));
}
