//! Cursors of clients with a scope.

use super::*;

async fn page(caller: &mut Caller, list: &wire::ListTasks, cursor: &[u8]) -> Answer {
    let cursor = cursor.to_vec().into();
    caller.ask(Ask::ListTasks(wire::ListTasks { limit: 1, cursor, ..list.clone() })).await
}

/// The ids of a listing that takes one task a page, and all its cursors.
async fn walk(caller: &mut Caller, list: &wire::ListTasks) -> (Vec<String>, Vec<Vec<u8>>) {
    let (mut ids, mut cursors) = (Vec::new(), vec![Vec::new()]);
    loop {
        let Answer::TaskPage(page) = page(caller, list, &cursors[cursors.len() - 1]).await else {
            panic!("a page of tasks")
        };
        assert_eq!((page.looked, page.total), (0, 0), "the looks count the tasks of others");
        ids.extend(page.tasks.into_iter().map(|task| task.id));
        if page.cursor.is_empty() {
            return (ids, cursors.split_off(1));
        }
        cursors.push(page.cursor.to_vec());
    }
}

fn reader(name: &str, queue: &str) -> Pass {
    pass(name, &format!("roles = [\"reader\"]\nqueues = [\"{queue}\"]\nnames = [\"*\"]"))
}

#[tokio::test]
async fn o9_a_cursor_of_a_scope_shows_nothing_and_one_of_another_scope_is_refused() {
    let all = pass("all", EVERYTHING);
    let (own, same, other) = (reader("a", "own"), reader("b", "own"), reader("c", "foreign"));
    let served = Served::with(&[&all, &own, &same, &other]).await;
    let mut admin = served.call(&all).await;
    let tasks: Vec<(String, &str)> = (0..40)
        .map(|number| (format!("id-{number}"), if number % 20 == 0 { "own" } else { "foreign" }))
        .collect();
    let tasks: Vec<_> = tasks.iter().map(|(id, queue)| (&**id, *queue, "t")).collect();
    admin.submit(&tasks).await;
    let cancel = wire::Cancel { ids: vec!["id-0".to_owned()], ..Default::default() };
    admin.ask(Ask::Cancel(cancel)).await;
    let (mut caller, mut equal) = (served.call(&own).await, served.call(&same).await);
    let mut foreign = served.call(&other).await;
    let plain = wire::ListTasks::default();
    let newest = wire::ListTasks { newest_first: true, ..Default::default() };
    let ended = wire::ListTasks { just_ended: true, ..Default::default() };
    for (list, expected) in
        [(plain, vec!["id-0", "id-20"]), (newest, vec!["id-20", "id-0"]), (ended, vec!["id-0"])]
    {
        let (ids, cursors) = walk(&mut caller, &list).await;
        assert_eq!(ids, expected, "{list:?}");
        for cursor in &cursors {
            // Twelve bytes of chance, sixteen that prove it, and the place between them.
            assert!([32, 36, 57].contains(&cursor.len()), "{cursor:?}");
            let zeros = cursor.windows(3).filter(|bytes| *bytes == [0; 3]).count();
            assert_eq!(zeros, 0, "a small number is not to be seen: {cursor:?}");
            let (one, two) = (page(&mut equal, &list, cursor), page(&mut caller, &list, cursor));
            let (Answer::TaskPage(one), Answer::TaskPage(two)) = (one.await, two.await) else {
                panic!("the scope is the same")
            };
            assert_eq!(one.tasks, two.tasks);
            for asker in [&mut foreign, &mut admin] {
                let answer = page(asker, &list, cursor).await;
                assert_eq!(code_of(&answer), ErrorCode::InvalidArgument, "{answer:?}");
            }
        }
    }
    // A cursor of a client without a scope is refused too, and so is what somebody made up.
    let Answer::TaskPage(first) = page(&mut admin, &wire::ListTasks::default(), &[]).await else {
        panic!("a page of tasks")
    };
    for cursor in [&first.cursor[..], &[0; 4], &[0; 8], &[0; 29], &[0; 32], b"x"] {
        let answer = page(&mut caller, &wire::ListTasks::default(), cursor).await;
        assert_eq!(code_of(&answer), ErrorCode::InvalidArgument, "{answer:?}");
    }
    for cursor in [&[0; 8][..], &[7; 36]] {
        let list = wire::ListWorkers { cursor: cursor.to_vec().into(), ..Default::default() };
        let answer = caller.ask(Ask::ListWorkers(list)).await;
        assert_eq!(code_of(&answer), ErrorCode::InvalidArgument, "{answer:?}");
    }
}

#[tokio::test]
async fn o9_cursors_within_a_scope_stay_valid_when_the_file_is_read_again() {
    let (all, own) = (pass("all", EVERYTHING), reader("a", "own"));
    let served = Served::with(&[&all, &own]).await;
    served.call(&all).await.submit(&[("a", "own", "t"), ("b", "own", "t")]).await;
    let mut caller = served.call(&own).await;
    let list = wire::ListTasks::default();
    let Answer::TaskPage(first) = page(&mut caller, &list, &[]).await else {
        panic!("a page of tasks")
    };
    served.change(&[&own, &all]).await;
    let Answer::TaskPage(second) = page(&mut served.call(&own).await, &list, &first.cursor).await
    else {
        panic!("a page of tasks")
    };
    assert_eq!(second.tasks[0].id, "b");
}
