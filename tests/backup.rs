//! Backups of a running broker: the backup has everything that was confirmed before, a broker
//! starts from it, and the running broker is not affected.

use std::time::Duration;

use celeriac_client::{Client, Error, ErrorCode};
use celeriac_proto::wire::TaskState;
use celeriac_tests::traffic::Traffic;
use celeriac_tests::{BrokerProcess, RawConnection, Setup, raw, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_everything_that_was_confirmed_before() {
    let broker = BrokerProcess::start().await;
    let copy = broker.home().join("copy");
    let traffic = Traffic::new(broker.address());
    let producers: Vec<_> =
        (0..4).map(|number| tokio::spawn(traffic.clone().produce(number))).collect();
    let workers: Vec<_> = (0..4).map(|number| tokio::spawn(traffic.clone().work(number))).collect();
    until("some tasks have ended", || async { traffic.finished() >= 2_000 }).await;

    let client = Client::connect(&broker.url()).await.expect("the broker is there");
    let (before, finished) = (traffic.history().confirmed(), traffic.finished());
    let path = copy.to_str().expect("a temporary path is text");
    let backup = within("the backup", client.backup(path)).await.expect("a backup is made");
    assert!(
        backup.tasks >= before.len() as u64 && backup.bytes > 0,
        "{backup:?}, {} confirmed",
        before.len()
    );
    until("the broker goes on", || async { traffic.finished() > finished + 200 }).await;
    traffic.stop_producing();

    let again = client.backup(path).await.expect_err("the folder is there");
    assert!(matches!(again, Error::Refused { code: ErrorCode::InvalidArgument, .. }), "{again}");
    let relative = client.backup("copy-2").await.expect_err("whose folder would that be?");
    assert!(
        matches!(relative, Error::Refused { code: ErrorCode::InvalidArgument, .. }),
        "{relative}"
    );

    let restored = Setup::new().data(&copy).start().await;
    let mut reader = RawConnection::open(restored.address()).await;
    for id in &before {
        assert_ne!(
            reader.info(id).await.state(),
            TaskState::Unknown,
            "{id} was confirmed before the backup"
        );
    }
    assert_eq!(reader.submit_one(raw::task("new", "n")).await.error, None);

    for producer in producers {
        within("a producer to confirm its last batch", producer).await.expect("no producer panics");
    }
    traffic.read_all().await;
    traffic.stop_working();
    for worker in workers {
        within("a worker to end", worker).await.expect("no worker panics");
    }
    assert_eq!(traffic.broken_promises(), Vec::<String>::new());
}

#[tokio::test]
async fn a_broker_that_is_killed_during_a_backup_leaves_nothing_that_could_be_served() {
    let mut broker = BrokerProcess::start().await;
    let copy = broker.home().join("copy");
    let mut producer = RawConnection::open(broker.address()).await;
    for round in 0..20 {
        let large = |number| raw::task(&format!("task-{round}-{number}"), "n");
        let tasks = (0..20).map(|number| celeriac_proto::wire::Task {
            payload: vec![1; 50_000].into(),
            ..large(number)
        });
        producer.submit(tasks.collect()).await;
    }
    let client = Client::connect(&broker.url()).await.expect("the broker is there");
    let path = copy.to_str().expect("a temporary path is text").to_owned();
    let backup = tokio::spawn(async move { client.backup(path).await });
    let partial = broker.home().join("copy.partial");
    until("the backup has begun", || async { partial.exists() || copy.exists() }).await;
    broker.kill().await;
    backup.abort();
    if partial.exists() {
        assert!(!copy.exists(), "it gets its name at the end");
        let exit = Setup::new()
            .data(&partial)
            .try_start()
            .await
            .map(|_| ())
            .expect_err("half a backup is not served");
        assert!(exit.is_a_clear_refusal(), "{exit:?}");
    }
    within(
        "the broker starts again",
        tokio::time::timeout(Duration::from_secs(60), broker.restart()),
    )
    .await
    .expect("in time");
}

#[tokio::test]
async fn a_backup_goes_into_an_empty_folder_that_is_a_link_or_has_its_own_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let broker = BrokerProcess::start().await;
    RawConnection::open(broker.address()).await.submit_one(raw::task("task", "n")).await;
    let client = Client::connect(&broker.url()).await.expect("the broker is there");
    let (real, link) = (broker.home().join("real"), broker.home().join("link"));
    std::fs::create_dir_all(real.join("lost+found")).expect("the home is writable");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    symlink(&real, &link).expect("the home is writable");
    let backup =
        within("the backup", client.backup(link.to_str().expect("a temporary path is text"))).await;
    assert_eq!(backup.expect("a backup is made").tasks, 1);
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!((mode(&real), mode(&real.join("db"))), (0o700, 0o600));
    let restored = Setup::new().data(&real).start().await;
    let info = RawConnection::open(restored.address()).await.info("task").await;
    assert_eq!(info.state(), TaskState::Queued);
}
