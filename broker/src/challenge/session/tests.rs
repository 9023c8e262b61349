use countersign_node_proto::ConnectionId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::challenge::{ChallengeId, Claimant, EchoAnswer, Expected, ExpectedProof, Lanes, PageOrigin, PendingPermits};
use crate::config::ChallengeSettings;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Stands for the connection.
struct Listener(UnboundedSender<Concluded>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Concluded> for Listener {
    type Result = ();

    fn handle(&mut self, concluded: Concluded, _: &mut Self::Context) {
        self.0.send(concluded).unwrap();
    }
}

/// A fault within the session.
#[derive(Message)]
#[rtype(result = "()")]
struct Fault;

impl Handler<Fault> for ChallengeSession {
    type Result = ();

    fn handle(&mut self, _: Fault, _: &mut Self::Context) {
        let _taken = self.open.take();
        panic!("a fault while judging");
    }
}

struct Scene {
    metrics: Arc<Metrics>,
    permits: PendingPermits,
    heard: UnboundedReceiver<Concluded>,
    handle: Option<SessionHandle>,
    listener: Addr<Listener>,
    opened_at: tokio::time::Instant,
}

impl Scene {
    fn open() -> Self {
        let metrics = Arc::new(Metrics::new());
        let opened_at = tokio::time::Instant::now();
        let settings = ChallengeSettings { failures_per_network_per_minute: 1, ..ChallengeSettings::default() };
        let permits = PendingPermits::new(&settings, opened_at.into_std(), Arc::clone(&metrics));
        let (sender, heard) = unbounded_channel();
        let listener = Listener(sender).start();
        let pending = Pending {
            connection: ConnectionId::from_bytes([1; 16]),
            challenge_id: ChallengeId::from_bytes([2; 16]),
            epoch: 3,
            expected: Expected { page: PageOrigin::Missing, proof: ExpectedProof::Lanes(Lanes::new([4; 8])) },
            sent_at: opened_at.into_std(),
            deadline: opened_at.into_std() + ANSWER_TIMEOUT,
        };
        let permit = permits.try_acquire(Claimant::new(None, None)).unwrap();
        let to = listener.clone().recipient();
        let handle = Some(ChallengeSession::open(pending, permit, None, to, Arc::clone(&metrics)));
        Self { metrics, permits, heard, handle, listener, opened_at }
    }

    fn submit(&mut self, lane: i32, after: Duration) {
        let answer = EchoAnswer { origin: String::new(), domain: None, lanes: Lanes::new([lane; 8]) };
        self.handle.take().unwrap().submit(Answer::Echo(answer), self.opened_at.into_std() + after);
    }

    async fn verdict(&mut self) -> Verdict {
        let concluded = self.heard.recv().await.unwrap();
        assert_eq!(concluded.epoch, 3);
        concluded.verdict
    }

    /// Everything that was taken was given back, and the end was counted once, as this.
    async fn ends_as(mut self, label: VerdictLabel) {
        while self.permits.taken() != 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.metrics.challenges_pending.get(), 0);
        let charged = self.permits.judge(&Claimant::new(None, None), tokio::time::Instant::now().into_std()).is_err();
        let blamed = [VerdictLabel::WrongAnswer, VerdictLabel::OriginMismatch, VerdictLabel::Late].contains(&label);
        assert_eq!(charged, blamed, "whose fault was it");
        // A failure weighs four.
        for _ in 0..3 {
            self.permits.again(Claimant::new(None, None)).abandoned(tokio::time::Instant::now().into_std());
        }
        let charged = self.permits.judge(&Claimant::new(None, None), tokio::time::Instant::now().into_std()).is_err();
        assert_eq!(charged, blamed || label == VerdictLabel::Abandoned, "who left has a part in it");
        let counted = |label: &VerdictLabel| self.metrics.challenge_verdicts.of(*label).get();
        let all = <VerdictLabel as crate::telemetry::Label>::ALL;
        assert_eq!((counted(&label), all.iter().map(counted).sum::<u64>()), (1, 1));
        drop(self.listener);
        assert_eq!(self.heard.recv().await, None, "told more than once");
    }
}

/// Runs a story on a stopped clock, on one thread, as an actor's.
fn story(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, story);
}

#[test]
fn right_answer_verifies_once() {
    story(async {
        let mut scene = Scene::open();
        assert_eq!(scene.metrics.challenges_pending.get(), 1);
        scene.submit(4, Duration::from_secs(1));
        assert_eq!(scene.verdict().await, Verdict::Verified);
        assert_eq!(scene.metrics.challenge_seconds.get_sample_count(), 1);
        scene.ends_as(VerdictLabel::Verified).await;
    });
}

#[test]
fn wrong_answer_is_the_only_attempt() {
    story(async {
        let mut scene = Scene::open();
        scene.submit(5, Duration::ZERO);
        assert_eq!(scene.verdict().await, Verdict::WrongAnswer);
        assert!(scene.handle.is_none());
        scene.ends_as(VerdictLabel::WrongAnswer).await;
    });
}

#[test]
fn deadline_enforced_on_silence() {
    story(async {
        let mut scene = Scene::open();
        assert_eq!(scene.verdict().await, Verdict::Late);
        let waited = scene.opened_at.elapsed();
        assert!(waited >= ANSWER_TIMEOUT + GRACE && waited < ANSWER_TIMEOUT + GRACE * 2, "{waited:?}");
        scene.ends_as(VerdictLabel::Late).await;
    });
}

#[test]
fn answer_stamped_in_time_counts_though_it_is_judged_within_the_grace() {
    story(async {
        let mut scene = Scene::open();
        tokio::time::sleep(ANSWER_TIMEOUT + GRACE / 2).await;
        scene.submit(4, ANSWER_TIMEOUT);
        assert_eq!(scene.verdict().await, Verdict::Verified);
        scene.ends_as(VerdictLabel::Verified).await;
    });
}

#[test]
fn answer_stamped_late_fails_though_it_is_judged_within_the_grace() {
    story(async {
        let mut scene = Scene::open();
        tokio::time::sleep(ANSWER_TIMEOUT + GRACE / 2).await;
        scene.submit(4, ANSWER_TIMEOUT + Duration::from_nanos(1));
        assert_eq!(scene.verdict().await, Verdict::Late);
        scene.ends_as(VerdictLabel::Late).await;
    });
}

#[test]
fn closed_connection_abandons_at_once() {
    story(async {
        let mut scene = Scene::open();
        drop(scene.handle.take());
        let opened_at = scene.opened_at;
        scene.ends_as(VerdictLabel::Abandoned).await;
        assert_eq!(opened_at.elapsed(), Duration::ZERO);
    });
}

#[test]
fn internal_error_fails_closed() {
    story(async {
        let mut scene = Scene::open();
        scene.handle.as_ref().unwrap().session.do_send(Fault);
        assert_eq!(scene.verdict().await, Verdict::Internal);
        drop(scene.handle.take());
        scene.ends_as(VerdictLabel::Internal).await;
    });
}

#[test]
fn answer_after_the_end_is_ignored() {
    story(async {
        let mut scene = Scene::open();
        assert_eq!(scene.verdict().await, Verdict::Late);
        scene.submit(4, Duration::ZERO);
        scene.ends_as(VerdictLabel::Late).await;
    });
}
