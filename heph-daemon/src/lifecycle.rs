//! When a daemon goes, and how: what it has begun is finished, nothing new is taken.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::activity::{Activity, Load, Wish};

/// A daemon that nobody uses is tidied up after this time, or when it goes, if that is sooner.
const TIDY_AFTER: Duration = Duration::from_secs(60);

/// A daemon lives at least so long, so that who started it can connect.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

/// Cancelled runs end within this time; their clients kill what they run.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// Connections on which nothing goes on are closed within this time.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Why a daemon goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody used it for so long.
    Idle(Duration),
    /// Somebody asked.
    Asked(String),
}

/// After what time a daemon that has nothing to do does what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Nobody was connected for so long: it goes.
    pub idle: Duration,
    /// Nothing was worked on for so long: it drops what is warm.
    pub warm: Duration,
}

/// What a daemon does while it has nothing to do. Each is called once for each time that it becomes idle.
pub trait Chores {
    /// Nobody has used it for a while.
    fn tidy(&self) -> impl Future<Output = ()>;
    /// Nothing was worked on for [`Patience::warm`].
    fn cool(&self) -> impl Future<Output = ()>;
    /// Whether it is still at work for somebody who has gone: then it stays for as long again.
    fn is_needed(&self) -> impl Future<Output = bool>;
}

/// Waits until there is a reason to go.
pub async fn until_going(activity: &Activity, patience: Patience, chores: &impl Chores) -> Reason {
    let (mut load, mut wish) = (activity.load(), activity.wish());
    let Patience { idle, warm } = patience;
    tokio::select! {
        reason = asked(&mut wish) => Reason::Asked(reason),
        () = until_idle(&mut load, idle.max(SHORTEST_IDLE), chores) => Reason::Idle(idle),
        () = cool_when_idle(activity.load(), warm, chores) => std::future::pending().await,
    }
}

/// Clients may stay connected, as those that watch files do.
async fn cool_when_idle(mut load: watch::Receiver<Load>, warm: Duration, chores: &impl Chores) {
    // Nothing is warm before something was done.
    while load.changed().await.is_ok() {
        loop {
            if load.wait_for(|load| load.requests == 0).await.is_err() {
                return;
            }
            let used = load.changed();
            tokio::select! {
                biased;
                used = used => if used.is_err() { return },
                () = tokio::time::sleep(warm) => break,
            }
        }
        chores.cool().await;
    }
}

async fn asked(wish: &mut watch::Receiver<Wish>) -> String {
    match wish.wait_for(|wish| *wish != Wish::Stay).await.as_deref() {
        Ok(Wish::Finish(why) | Wish::Cancel(why)) => why.clone(),
        // The registry outlives everybody who asks it.
        Ok(Wish::Stay) | Err(_) => std::future::pending().await,
    }
}

async fn until_idle(load: &mut watch::Receiver<Load>, idle: Duration, chores: &impl Chores) {
    let is_idle = |load: &Load| load.connections == 0 && load.requests == 0;
    loop {
        if load.wait_for(is_idle).await.is_err() {
            return std::future::pending().await;
        }
        let since = Instant::now();
        // Any change is use, also one that is over before it is seen here.
        let used = load.changed();
        let passed = async {
            if TIDY_AFTER < idle {
                sleep_until(since + TIDY_AFTER).await;
                chores.tidy().await;
            }
            sleep_until(since + idle).await;
        };
        tokio::select! {
            biased;
            _ = used => {}
            () = passed => if !chores.is_needed().await { return },
        }
    }
}

/// Waits until every request is answered. From the wish on, or when it is made stronger, runs are cancelled, and waited for
/// only for a while.
pub async fn drain(activity: &Activity) {
    let mut load = activity.load();
    let mut wish = activity.wish();
    let cancelled = async {
        if wish
            .wait_for(|wish| matches!(wish, Wish::Cancel(_)))
            .await
            .is_err()
        {
            return std::future::pending().await;
        }
        activity.cancel_runs();
        tokio::time::sleep(CANCEL_LIMIT).await;
        tracing::warn!("runs that were cancelled did not end within {CANCEL_LIMIT:?}; they are left");
    };
    tokio::select! {
        _ = load.wait_for(|load| load.requests == 0) => {}
        () = cancelled => {}
    }
}

/// Waits for a while until nobody is connected but those who wait for the end.
pub async fn farewell(activity: &Activity) {
    let mut load = activity.load();
    // Clients that stay connected see the end of the process.
    let _ = timeout(
        FAREWELL_LIMIT,
        load.wait_for(|load| load.connections <= load.farewells),
    )
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use heph_proto::Start;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    const PATIENCE: Patience = Patience {
        idle: HOUR,
        warm: Duration::from_secs(600),
    };

    /// Counts what is done.
    #[derive(Default)]
    struct Counted {
        tidied: AtomicU32,
        cooled: AtomicU32,
        /// Uploads that wait; each time somebody asks, one is done.
        uploads: AtomicU32,
    }

    impl Chores for Counted {
        async fn tidy(&self) {
            self.tidied.fetch_add(1, Ordering::Relaxed);
        }

        async fn cool(&self) {
            self.cooled.fetch_add(1, Ordering::Relaxed);
        }

        async fn is_needed(&self) -> bool {
            let one_less = |left: u32| left.checked_sub(1);
            self.uploads
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_while_results_wait_to_be_uploaded() {
        let activity = Activity::new(false);
        drop(activity.connected());
        let chores = Counted {
            uploads: AtomicU32::new(3),
            ..Counted::default()
        };
        let began = Instant::now();
        until_going(&activity, PATIENCE, &chores).await;
        assert_eq!(began.elapsed().as_secs(), (HOUR * 4).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_warm_is_dropped_when_nothing_was_worked_on_for_long_enough() {
        let activity = Activity::new(false);
        let chores = Counted::default();
        let cooled = || chores.cooled.load(Ordering::Relaxed);
        let minutes = |minutes: u64| tokio::time::sleep(Duration::from_secs(60 * minutes));
        let working = async {
            minutes(30).await;
            assert_eq!(cooled(), 0, "there was nothing to drop");
            // It stays connected, as one that watches files.
            let client = activity.connected();
            let request = activity.admit().unwrap();
            minutes(30).await;
            assert_eq!(cooled(), 0, "a run goes on");
            drop(request);
            minutes(9).await;
            drop(activity.admit());
            minutes(9).await;
            assert_eq!(cooled(), 0);
            minutes(2).await;
            assert_eq!(cooled(), 1);
            minutes(120).await;
            assert_eq!(cooled(), 1, "once is enough");
            drop(activity.admit());
            minutes(11).await;
            assert_eq!(cooled(), 2);
            drop(client);
        };
        tokio::select! {
            _ = until_going(&activity, PATIENCE, &chores) => panic!("a client is connected"),
            () = working => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_when_nobody_has_used_it_for_long_enough() {
        let activity = Activity::new(false);
        let client = activity.connected();
        let chores = Counted::default();
        let began = Instant::now();
        let going = until_going(&activity, PATIENCE, &chores);
        let leaving = async {
            tokio::time::sleep(HOUR * 2).await;
            drop(client);
            tokio::time::sleep(HOUR / 2).await;
            drop(activity.connected());
        };
        let (reason, ()) = tokio::join!(going, leaving);
        assert_eq!(reason, Reason::Idle(HOUR));
        assert_eq!(began.elapsed().as_secs(), (HOUR * 2 + HOUR / 2 + HOUR).as_secs());
        assert_eq!(
            chores.tidied.load(Ordering::Relaxed),
            2,
            "once for each time it became idle"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn runs_are_finished_unless_they_are_cancelled() {
        let activity = Activity::new(false);
        let cancelled = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&cancelled);
        let run = activity.begin(activity.admit().unwrap(), &Start::default(), 0, move || {
            notify.notify_one()
        });
        activity.ask(Wish::Finish("enough".into()));
        let reason = until_going(&activity, PATIENCE, &Counted::default()).await;
        assert_eq!(reason, Reason::Asked("enough".into()));
        activity.go();
        assert!(
            timeout(HOUR, drain(&activity)).await.is_err(),
            "it waits for the run"
        );
        activity.ask(Wish::Cancel("now".into()));
        let ends = async {
            cancelled.notified().await;
            drop(run);
        };
        tokio::join!(drain(&activity), ends);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_does_not_end_is_not_waited_for_once_it_is_cancelled() {
        let activity = Activity::new(false);
        let _run = activity.begin(activity.admit().unwrap(), &Start::default(), 0, || {});
        activity.ask(Wish::Cancel("now".into()));
        let began = Instant::now();
        drain(&activity).await;
        assert_eq!(began.elapsed().as_secs(), CANCEL_LIMIT.as_secs());
    }
}
