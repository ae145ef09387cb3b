//! What a crash may leave half-way, made by hand, and going on from there.

use fvm_thin::{Access, Bytes, Error, Flush, Outcome, Pool};

use crate::host::{TestPool, active_volume, create, dmsetup, eventually, fill, need_host, volume};

const SIZE: Bytes = Bytes::mib(64);
const DISK: Bytes = Bytes::mib(16);

fn uuid_of(test: &TestPool, suffix: &str) -> String {
    format!("FVM-{}-{suffix}", test.spec.uuid.simple())
}

#[test]
fn a_device_without_a_table_is_completed() {
    need_host!();
    let test = TestPool::new(SIZE);
    Pool::format(&test.spec).unwrap();
    for part in ["data", "meta", "pool"] {
        let uuid = uuid_of(&test, part);
        dmsetup(&["create", &test.dm_name(part), "--uuid", &uuid, "--notable"]);
    }
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert!(pool.status(Flush::None).unwrap().is_well());
    create(&pool, [1]);
    let spec = volume(1, DISK);
    let uuid = uuid_of(&test, &spec.uuid.simple().to_string());
    dmsetup(&["create", &test.dm_name(1), "--uuid", &uuid, "--notable"]);
    let left = pool.volumes().unwrap();
    assert!(!left[0].has_table);
    let disk = pool.activate_volume(&spec, Access::ReadWrite).unwrap();
    assert_eq!(disk.outcome(), Outcome::Changed);
    fill(&disk, 0, 4096, 1).unwrap();
}

#[test]
fn a_device_without_a_table_can_be_taken_away() {
    need_host!();
    let test = TestPool::new(SIZE);
    Pool::format(&test.spec).unwrap();
    let uuid = uuid_of(&test, "data");
    dmsetup(&[
        "create",
        &test.dm_name("data"),
        "--uuid",
        &uuid,
        "--notable",
    ]);
    assert_eq!(Pool::deactivate(&test.spec).unwrap(), Outcome::Changed);
    assert_eq!(test.devices_left(), 0);
}

#[test]
fn what_was_left_suspended_is_resumed() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    active_volume(&pool, 1, DISK);
    active_volume(&pool, 2, DISK);
    drop(pool);
    for name in ["1", "pool", "meta", "data"] {
        dmsetup(&["suspend", &test.dm_name(name)]);
    }
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert!(pool.volumes().unwrap().iter().all(|disk| !disk.suspended));
    for n in [1, 2] {
        let disk = pool
            .activate_volume(&volume(n, DISK), Access::ReadWrite)
            .unwrap();
        fill(&disk, 0, 4096, 1).unwrap();
    }
}

#[test]
fn formatting_goes_on_where_it_was_broken_off() {
    need_host!();
    // The data file is made, and marked as being made; then the power fails.
    let test = TestPool::new(SIZE);
    Pool::format(&test.spec).unwrap();
    let data = test.path("data");
    let header = std::fs::read(&data).unwrap()[..4096].to_vec();
    std::fs::remove_file(test.path("meta")).unwrap();
    std::fs::remove_file(test.path("spare")).unwrap();
    Pool::format(&test.spec).unwrap_err();
    std::fs::remove_file(&data).unwrap();

    // An empty file, as a crash right after its making leaves it.
    std::fs::write(&data, "").unwrap();
    Pool::format(&test.spec).unwrap();
    assert!(std::fs::read(&data).unwrap()[..4096] == header);
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert!(pool.status(Flush::None).unwrap().is_well());
}

#[test]
fn a_pool_half_up_is_completed_or_taken_down() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    drop(pool);
    dmsetup(&["remove", &test.dm_name("pool")]);
    dmsetup(&["remove", &test.dm_name("meta")]);
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(pool.loops().unwrap().len(), 2);
    dmsetup(&["remove", &test.dm_name("pool")]);
    assert_eq!(Pool::deactivate(&test.spec).unwrap(), Outcome::Changed);
    assert_eq!(test.devices_left(), 0);
    eventually("autoclear", || test.loops_left() == 0);
}

#[test]
fn an_active_pool_over_another_file_is_not_adopted() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    drop(pool);
    // Somebody moved the file and put a copy in its place: the kernel still has the first.
    let (data, moved) = (test.path("data"), test.path("moved"));
    std::fs::rename(&data, &moved).unwrap();
    std::fs::copy(&moved, &data).unwrap();
    let error = Pool::activate(test.spec.clone()).unwrap_err();
    assert!(matches!(&error, Error::NotOurs { .. }), "{error}");
    assert_eq!(test.devices_left(), 3);
}
