//! A short run of every fault: the drivers are in `harness/faults/`, and FAULTS.md says what each
//! does. `RUNS` and `SEED` in the environment change how often a fault is done and where its random
//! choices begin.

use celeriac_tests::faults::{check, deaf_consumer};
use celeriac_tests::{runs, seed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_over_kills_and_restarts() {
    check("kill-broker", 30, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_of_celery_loses_nothing_and_runs_nothing_twice_over_kills() {
    check("kill-broker-celery", 3, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_while_it_starts_starts_again() {
    check("kill-start", 20, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_killed_workers_held_is_run_by_others() {
    check("kill-worker", 30, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_in_a_power_cut() {
    check("power-cut", 10, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_when_system_calls_fail() {
    check("failing-disk", 30, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_submits_serves_reports_and_lets_the_broker_start_again() {
    check("full-disk", 2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_or_a_cut_is_refused_or_everything_is_served_intact() {
    check("bit-rot", 100, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_of_the_wall_clock_moves_schedules_and_no_lease() {
    check("clock-jumps", 12, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_on_a_bad_network() {
    check("toxic-network", 40, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_cut_at_any_byte_goes_on_where_it_was() {
    check("cut-everywhere", 1_000, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_falls_silent_is_noticed_on_both_sides() {
    check("black-hole", 4, 13).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_peers_neither_stop_the_broker_nor_the_work_of_others() {
    check("hostile-peers", 100, 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_cost_as_much_as_they_can_cost_nobody_else_a_session_or_a_second_run() {
    check("costly-frames", 3, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_refused_and_those_inside_are_served() {
    check("flood", 600, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_sockets_cost_little_and_hold_up_nobody() {
    check("idle-sockets", 5_000, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stops_reading_is_closed_and_holds_up_nobody() {
    check("deaf-consumer", 3, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_stop_reading_together_share_one_bound_of_memory() {
    deaf_consumer::run_together(runs(6) as u64, seed(8)).await.assert_clean();
}

/// What the fuzz targets run, over the corpus, the regressions and seeded mutations of both, on a
/// stable compiler. `RUNS=100000` runs more mutations.
mod fuzz {
    use celeriac_tests::faults::fuzz::check;

    #[tokio::test]
    async fn any_bytes_are_frames_or_a_fault_of_framing() {
        check("frame", 10_000, 1).await;
    }

    #[tokio::test]
    async fn any_conversation_leaves_the_books_in_order() {
        check("request", 3_000, 2).await;
    }

    #[tokio::test]
    async fn any_bytes_over_http_get_an_answer_and_hurt_nobody() {
        check("http", 1_500, 4).await;
    }

    #[tokio::test]
    async fn any_chunks_are_refused_or_served() {
        check("chunk", 3_000, 3).await;
    }
}
