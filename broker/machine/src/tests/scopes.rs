//! Scopes: a client with a scope sees its own tasks, and nothing of others. The last test compares
//! two worlds, one with the tasks of others and one without them.

use expect_test::expect;

use super::check;
use super::script::Scene;

#[test]
fn an_id_outside_the_scope_answers_like_an_id_without_a_task() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=mine
            m: welcome new leases []
        submit f queue=others by=a
            a: Created { state: Queued }
        submit o queue=mine by=a
            a: Created { state: Queued }
        get f o x by=m
            m: f unknown, o Queued for Worker g1 v1, x unknown
        wait f x by=m
            m: came: f unknown, x unknown
        watch f o x by=m
            m: watching f unknown, o Queued for Worker g1 v1, x unknown
        cancel f x by=m
            m: ("f", NotFound), ("x", NotFound)
        forget f x by=m
            m: Err(NotFound), Err(NotFound)
        put f x by=m state=SUCCESS
            m: audit: Outcomes { ids: ["f", "x"], count: 2 }
            m: Forbidden None: the access of this client does not allow the queue `celeriac.outcomes`, in which the outcome of an id without a task is kept, Forbidden None: the access of this client does not allow the queue `celeriac.outcomes`, in which the outcome of an id without a task is kept
        submit f queue=mine by=m
            m: Refused(Refusal { code: TaskExists, message: "a task of this id exists", retry_after_ms: 0 })
        submit f queue=mine by=m conflict=replace
            m: Refused(Refusal { code: TaskExists, message: "a task of this id exists", retry_after_ms: 0 })
        list by=m
            m: page o Queued for Worker g1 v1 next None
        list by=m newest
            m: page o Queued for Worker g1 v1 next None
        queues by=m
            m: mine: ready 1 scheduled 0 leased 0 dead 0
        cancel f by=a
            a: ("f", Revoked)
        cancel o by=a
            m: sees o Revoked g1 v2
            a: ("o", Revoked)
        forget f by=a
            a: Ok(())
        forget o by=a
            m: sees o unknown
            a: Ok(())
    "#]]);
}

#[test]
fn the_names_of_a_scope_count_as_its_queues_do() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=* names=mail.*
            m: welcome new leases []
        submit s queue=q name=song by=a
            a: Created { state: Queued }
        submit m queue=q name=mail.in by=a
            a: Created { state: Queued }
        get s m by=m
            m: s unknown, m Queued for Worker g1 v1
        list by=m
            m: page m Queued for Worker g1 v1 next None
        cancel tag=none by=m
            m: 
        cancel s m by=m
            m: ("s", NotFound), ("m", Revoked)
    "#]]);
}

#[test]
fn a_scope_of_the_reserved_queue_may_put_outcomes_of_ids_without_a_task() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=mine,celeriac.outcomes
            m: welcome new leases []
        submit f queue=others by=a
            a: Created { state: Queued }
        put f x by=m state=SUCCESS
            m: TaskExists None: a task of this id exists, Success g1
        get f x by=m
            m: f unknown, x Success g1 v2
    "#]]);
}

#[test]
fn a_task_of_others_that_follows_an_own_one_hides_the_id() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=mine
            m: welcome new leases []
        submit o queue=mine by=a
            a: Created { state: Queued }
        get o by=m
            m: o Queued for Worker g1 v1
        submit o queue=others by=a conflict=after
            a: NewGeneration { generation: 2, state: Scheduled }
        get o by=m
            m: o unknown
        cancel o by=m
            m: ("o", NotFound)
    "#]]);
}

#[test]
fn a_wait_and_a_watch_go_on_when_others_take_the_id() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=mine
            m: welcome new leases []
        submit o p queue=mine by=a
            a: Created { state: Queued }, Created { state: Queued }
        watch o by=m
            m: watching o Queued for Worker g1 v1
        wait o p by=m
        submit o queue=others by=a conflict=replace
            m: sees o Revoked g1 v2
            m: is to be shown o Revoked g1 v2
            a: NewGeneration { generation: 2, state: Queued }
        cancel o by=a
            a: ("o", Revoked)
        cancel p by=a
            m: came: o unknown, p Revoked g1 v2
            a: ("p", Revoked)
        get o p by=m
            m: o unknown, p Revoked g1 v2
    "#]]);
}

#[test]
fn a_session_with_leases_of_others_is_not_resumed_with_a_smaller_scope() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect w runs=job queues=mine,others
            w: welcome new leases []
        credit w 2
            w: done
        submit f queue=others by=a
            a: Created { state: Queued }
            w: deliver f lease 1 attempt 1 delivery 1
        expel w
            w: closing Unauthenticated: the access has ended
            w: closed
        connect w resume runs=job queues=mine sees=mine
            w: welcome new leases []
        connect w resume runs=job queues=mine,others
            w: welcome back leases [1]
            w: order Resume
            w: deliver f lease 1 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_report_about_a_lease_of_others_finds_no_task() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect w runs=job queues=others
            w: welcome new leases []
        credit w 1
            w: done
        submit f queue=others by=a
            a: Created { state: Queued }
            w: deliver f lease 1 attempt 1 delivery 1
        connect m runs=job queues=mine sees=mine
            m: welcome new leases []
        complete f by=m
            m: Err((NotFound, None))
        connect u runs=job queues=mine
            u: welcome new leases []
        complete f by=u
            u: Err((StaleLease, Some(Leased)))
        complete f
            w: Ok(Success)
    "#]]);
}

#[test]
fn workers_of_others_are_not_listed_and_get_no_orders() {
    check(expect![[r#"
        connect m sees=mine
            m: welcome new leases []
        connect own runs=job queues=mine
            own: welcome new leases []
        connect both runs=job queues=mine,others
            both: welcome new leases []
        connect other runs=job queues=others
            other: welcome new leases []
        workers by=m
            m: workers [own runs ["job"], both runs ["job"]]
        quiet both by=m
            m: count 0
        quiet own by=m
            own: order Quiet
            m: count 1
        shutdown by=m
            own: order Shutdown
            m: count 1
    "#]]);
}

#[test]
fn an_order_of_a_scope_does_not_reach_workers_without_queues_or_with_leases_of_others() {
    check(expect![[r#"
        connect m sees=mine
            m: welcome new leases []
        connect idle runs=job queues=mine
            idle: welcome new leases []
        serve idle without=mine
            idle: done
        connect own runs=job queues=mine
            own: welcome new leases []
        connect both runs=job queues=mine,others
            both: welcome new leases []
        credit both 1
            both: done
        submit f queue=others by=m
            m: Created { state: Queued }
            both: deliver f lease 1 attempt 1 delivery 1
        serve both without=others
            both: done
        shutdown by=m
            own: order Shutdown
            m: count 1
    "#]]);
}

#[test]
fn a_session_is_not_resumed_by_another_entry_also_after_a_restart() {
    check(expect![[r#"
        connect w runs=job queues=mine entry=mine
            w: welcome new leases []
        lose w
            w: closed
        connect thief steals=w runs=job queues=others sees=others entry=others
            thief: welcome new leases []
        connect w resume runs=job queues=mine entry=mine
            w: welcome back leases []
            w: order Resume
        restart
        connect thief steals=w runs=job queues=others sees=others entry=others
            thief: welcome new leases []
        connect w resume runs=job queues=mine entry=mine
            w: welcome back leases []
            w: order Resume
        connect v runs=job
            v: welcome new leases []
        lose v
            v: closed
        connect v resume runs=job entry=mine
            v: welcome back leases []
            v: order Resume
    "#]]);
}

#[test]
fn an_exchange_with_bindings_to_others_is_listed_and_not_deleted_within_a_scope() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=e,mine
            m: welcome new leases []
        exchange e by=a
            a: done
        bind e key=k queue=others by=a
            a: done
        bindings by=m
            m: bindings [e Direct]
        bind e key=k queue=mine by=m
            m: done
        bindings by=m
            m: bindings [e Direct `k` -> queue mine]
        drop_exchange e by=m
            m: audit: Exchange("e")
            m: refused Forbidden: the exchange `e` has bindings to queues or mailboxes that the access of this client does not allow
        unbind e key=k queue=others by=a
            a: done
        drop_exchange e by=m
            m: done
        bindings by=a
            a: bindings []
    "#]]);
}

#[test]
fn an_outcome_that_may_not_be_put_does_not_show_the_latest_lease() {
    check(expect![[r#"
        connect m sees=mine
            m: welcome new leases []
        connect a
            a: welcome new leases []
        connect w runs=job queues=mine,others
            w: welcome new leases []
        credit w 9
            w: done
        submit o queue=mine by=a
            a: Created { state: Queued }
            w: deliver o lease 1 attempt 1 delivery 1
        submit f g queue=others by=a
            a: Created { state: Queued }, Created { state: Queued }
            w: deliver f lease 2 attempt 1 delivery 1
            w: deliver g lease 3 attempt 1 delivery 1
        complete o
            w: Ok(Success)
        submit p queue=mine priority=1 by=a
            a: Created { state: Queued }
            w: deliver p lease 4 attempt 1 delivery 1
        again p in=1h
            w: Ok(Retry)
        put f x by=m state=SUCCESS lease=3
            m: audit: Outcomes { ids: ["f", "x"], count: 2 }
            m: Forbidden None: the access of this client does not allow the queue `celeriac.outcomes`, in which the outcome of an id without a task is kept, Forbidden None: the access of this client does not allow the queue `celeriac.outcomes`, in which the outcome of an id without a task is kept
        put f x by=m state=SUCCESS lease=99
            m: audit: Outcomes { ids: ["f", "x"], count: 2 }
            m: Forbidden None: the access of this client does not allow the queue `celeriac.outcomes`, in which the outcome of an id without a task is kept, Forbidden None: the access of this client does not allow the queue `celeriac.outcomes`, in which the outcome of an id without a task is kept
        put o p by=m state=RETRY lease=3
            m: StaleLease Some(Success): the broker has not given out this lease, StaleLease Some(Retry): a later run of the task is over too, and the task waits for its next run
        put o p by=m state=RETRY lease=99
            m: StaleLease Some(Success): the broker has not given out this lease, StaleLease Some(Retry): the broker has not given out this lease
        put o by=m state=SUCCESS lease=1
            m: Success g1
    "#]]);
}

#[test]
fn a_mailbox_that_is_exclusive_to_another_connection_has_a_line_of_the_audit_log() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect b
            b: welcome new leases []
        mailbox m exclusive by=a
            a: mailbox m: ready 0 consumers 0
        fetch m by=b
            b: audit: Mailbox("m")
            b: refused Forbidden: the mailbox `m` is exclusive to another connection
        exchange e by=b
            b: done
        bind e mailbox=m by=b
            b: audit: Mailbox("m")
            b: refused Forbidden: the mailbox `m` is exclusive to another connection
    "#]]);
}

/// The lines of a client with the scope `mine` that two worlds answer, with the numbers of leases,
/// slots and serials left out: they count the tasks of all.
fn heard(lines: &[String], with_others: bool) -> Vec<String> {
    let mut scene = Scene::new();
    let mut heard = Vec::new();
    for line in lines {
        if !with_others && line.ends_with(" by=other") {
            continue;
        }
        let said = scene.line(line);
        let said = said.iter().filter(|said| said.starts_with("m: ") || said.starts_with("w: "));
        // A scan goes in the order of slots, which depends on the tasks of all.
        let mut said: Vec<String> = said.map(|said| without_numbers(said)).collect();
        said.sort_unstable();
        heard.extend(said);
    }
    heard
}

fn without_numbers(said: &str) -> String {
    let mut words = said.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for at in 1..words.len() {
        if ["lease", "next"].contains(&words[at - 1].as_str()) {
            words[at] = "N".to_owned();
        }
    }
    let said = words.join(" ");
    let separator = match said.get(3..) {
        Some(page) if page.starts_with("page ") => ", ",
        Some(cancelled) if cancelled.starts_with('(') => ", (",
        _ => return said,
    };
    let mut parts: Vec<&str> =
        said[3..].trim_start_matches("page ").trim_start_matches('(').split(separator).collect();
    let last = parts.len() - 1;
    parts[last] = parts[last].trim_end_matches(" next N");
    parts.sort_unstable();
    parts.join(separator)
}

/// A number that depends on a seed alone.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn line(&mut self) -> String {
        let (mine, other) = (self.below(4), self.below(4));
        let queue = ["mine", "mine.too"][self.below(2) as usize];
        let tag = ["", " tag=night"][self.below(2) as usize];
        match self.below(22) {
            0 | 1 => format!("submit o{other} queue=others tag=night by=other"),
            2 => format!("cancel o{other} by=other"),
            3 => format!("forget o{other} by=other"),
            4 => format!("submit o{other} queue=others conflict=replace by=other"),
            5 => format!("put o{other} state=FAILURE by=other"),
            6 | 7 => format!("submit m{mine} queue={queue}{tag} by=m"),
            8 => format!("submit m{mine} queue={queue} conflict=after by=m"),
            9 => format!("get m{mine} o{other} by=m"),
            10 => format!("wait m{mine} o{other} for=2s by=m"),
            11 => format!("watch o{other} m{mine} by=m"),
            12 => format!("cancel m{mine} o{other} by=m"),
            13 => format!("forget m{mine} o{other} by=m"),
            14 => "cancel tag=night by=m".to_owned(),
            15 => "list limit=9 by=m".to_owned(),
            16 => format!("replay m{mine} o{other} by=m"),
            17 => "queues by=m".to_owned(),
            18 => "discard all by=m".to_owned(),
            19 => format!("complete m{mine} by=w"),
            20 => format!("fail m{mine} last by=w"),
            _ => "after 1s".to_owned(),
        }
    }
}

#[test]
fn a_client_with_a_scope_hears_the_same_with_and_without_the_tasks_of_others() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut lines = vec![
            "connect other by=other".to_owned(),
            "connect m sees=mine,mine.*".to_owned(),
            "connect w runs=job queues=mine sees=mine,mine.*".to_owned(),
            "credit w 1".to_owned(),
        ];
        lines.extend((0..60).map(|_| dice.line()));
        let (with, without) = (heard(&lines, true), heard(&lines, false));
        let first = with.iter().zip(&without).position(|(one, other)| one != other);
        if let Some(first) = first {
            let (before, with) = (&with[..first], &with[first]);
            panic!("seed {seed}: {lines:#?}\n{before:#?}\n{with}\n{}", without[first]);
        }
        assert_eq!(with.len(), without.len(), "seed {seed}: {lines:#?}");
    }
}
