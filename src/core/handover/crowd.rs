//! The crowd: the other instances that may have been noticed in the same moment and call from the same buckets.
//!
//! A throttled answer tells a process of the crowd. From then on registrations, the tag and looks hold back for about
//! as long as the deregistrations of all fellows take. Instances that wait for the same bucket take turns.

use std::time::Duration;

use crate::core::duty::Attempts;
use crate::core::model::BootInstant;
use crate::core::retry::fraction;

/// A bucket of calls that all instances of an account share in a region (docs/aws.md 3 and 4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    size: u32,
    per_second: u32,
}

impl Bucket {
    /// RegisterTargets and DeregisterTargets.
    pub(super) const TARGETS: Bucket = Bucket { size: 20, per_second: 4 };
    pub(super) const AUTO_SCALING: Bucket = Bucket { size: 100, per_second: 10 };
    /// CreateFleet, ModifyFleet, CreateTags.
    pub(super) const EC2_WRITES: Bucket = Bucket { size: 50, per_second: 5 };

    /// DescribeTargetHealth and the like.
    pub(super) const ELB_LOOKS: Bucket = Bucket { size: 40, per_second: 10 };
    /// DescribeInstances and the like.
    pub(super) const EC2_LOOKS: Bucket = Bucket { size: 100, per_second: 20 };

    /// The bucket counted in looks that take this many calls each.
    pub(super) fn of_looks(self, calls: u32) -> Bucket {
        Bucket { size: self.size / calls.max(1), per_second: (self.per_second / calls.max(1)).max(1) }
    }

    /// The time that this many calls take.
    fn time_for(self, calls: u32) -> Duration {
        Duration::from_secs(calls.saturating_sub(self.size).into()) / self.per_second
    }
}

/// The calls of one look at the members of a fleet of some hundreds: DescribeFleetInstances, DescribeInstances, and
/// DescribeSpotInstanceRequests for each two hundred.
pub(super) const CALLS_A_FLEET_LOOK: u32 = 4;

/// The calls of one look at a group and its hooks: DescribeAutoScalingGroups and DescribeLifecycleHooks.
pub(super) const CALLS_A_GROUP_LOOK: u32 = 2;

/// After a throttled call registrations hold back for this long even among few fellows.
const HELD_BACK_AT_LEAST: Duration = Duration::from_secs(10);
/// The last look is begun this long before the deadline.
pub(super) const LAST_LOOK: Duration = Duration::from_secs(4);
/// If more others than this are healthy, some of them very likely stay, and their tags are not read.
pub(crate) const FEW: usize = 10;
/// The crowd never spaces looks further apart than this.
const LOOKS_APART_AT_MOST: Duration = Duration::from_secs(60);
/// The number of fellows that is assumed if it is unknown.
const ASSUMED_FELLOWS: u32 = 150;
/// After this many throttled tries in quick succession, a call takes turns with the fellows' calls.
const SOON_AT_MOST: u32 = 3;
/// A turn lasts this many times as long as the bucket needs for all. In a shorter turn some would get no call.
const SLACK: f64 = 1.1;
/// The shortest and the longest first turn.
const FIRST_TURN: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(38));
/// A call whose turn ends within this, or has just ended, is tried within this.
const LAST_OF_TURN: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crowd {
    begun_at: BootInstant,
    deadline: BootInstant,
    /// The number of instances with the same owner, this one included.
    fellows: Option<u32>,
    throttled_at: Option<BootInstant>,
}

impl Crowd {
    pub(super) fn new(begun_at: BootInstant) -> Crowd {
        Crowd { begun_at, ..Crowd::default() }
    }

    /// Notes that AWS has throttled a call of this process.
    pub(super) fn was_throttled(&mut self, now: BootInstant) {
        self.throttled_at = Some(now);
    }

    pub(super) fn learn_fellows(&mut self, fellows: Option<usize>) {
        self.fellows = fellows.and_then(|fellows| u32::try_from(fellows).ok()).or(self.fellows);
    }

    pub(super) fn until(self, deadline: BootInstant) -> Crowd {
        Crowd { deadline, ..self }
    }

    /// Gives a call that was throttled again and again a random instant within the turn. So all who wait call as often
    /// as the bucket fills, whether a refused call costs the bucket nothing or all that it has gathered. Turns end at
    /// the same instants for all who were noticed together, each twice as late as the one before.
    pub(super) fn take_turns(&self, attempts: &mut Attempts, bucket: Bucket) {
        if !attempts.was_throttled() || attempts.failures <= SOON_AT_MOST {
            return;
        }
        let tried_at = attempts.begun_at;
        let mut turn = bucket.time_for(self.fellows()).mul_f64(SLACK).clamp(FIRST_TURN.0, FIRST_TURN.1);
        while self.begun_at + turn + LAST_OF_TURN < tried_at {
            turn *= 2;
        }
        let end = (self.begun_at + turn).min(self.deadline - LAST_OF_TURN);
        let left = end.since(tried_at).max(LAST_OF_TURN);
        let chance = fraction(attempts.seed ^ u64::from(attempts.failures).rotate_left(17));
        attempts.postpone(tried_at + left.mul_f64(chance));
    }

    /// Brings a call of the last precedence that failed forward into the last third of the time, and twice more later,
    /// however long its pause. More tries would take from those that have not left.
    pub(super) fn bring_forward(&self, attempts: &mut Attempts) {
        let chance = fraction(attempts.seed);
        let last = [self.late(chance), self.after(0.84 + chance / 12.0), self.after(0.93 + chance / 20.0)];
        if let (true, Some(again)) = (attempts.failures > 0, last.into_iter().find(|at| *at > attempts.begun_at)) {
            attempts.next = attempts.next.min(again);
        }
    }

    /// Puts off a registration until the fellows have very likely left, and up to half as long again, but not into the
    /// last sixth of the time.
    pub(super) fn hold_back(&self, attempts: &mut Attempts) {
        let Some(throttled_at) = self.throttled_at else { return };
        let chance = fraction(attempts.seed);
        let all_leave = Bucket::TARGETS.time_for(self.fellows()).max(HELD_BACK_AT_LEAST);
        let wanted = throttled_at + all_leave.mul_f64(1.0 + chance / 2.0);
        attempts.postpone(wanted.min(self.late(chance)));
    }

    fn late(&self, chance: f64) -> BootInstant {
        self.after(0.66 + chance / 6.0)
    }

    /// The instant after this share of the time.
    fn after(&self, share: f64) -> BootInstant {
        self.begun_at + self.deadline.since(self.begun_at).mul_f64(share)
    }

    /// Brings the last moment to leave forward once a call was throttled, or all would leave in one moment: by chance,
    /// over the time that all deregistrations take, and at most over half of the time to serve on.
    pub(super) fn spread_leaving(&self, latest: BootInstant, seed: u64) -> BootInstant {
        let all_leave = Bucket::TARGETS.time_for(self.fellows()).min(latest.since(self.begun_at) / 2);
        let earlier = self.throttled_at.map(|_| all_leave.mul_f64(fraction(seed)));
        latest - earlier.unwrap_or_default()
    }

    /// Returns the instant at which the fellows' urgent calls from this bucket are very likely through, once a call was
    /// throttled. Looks begin no earlier.
    pub(super) fn are_through_at(&self, bucket: Bucket) -> BootInstant {
        let through = bucket.time_for(self.fellows()).mul_f64(SLACK).min(FIRST_TURN.1);
        self.throttled_at.map_or(self.begun_at, |_| self.begun_at + through)
    }

    /// Keeps looks apart, so that all fellows together stay within the bucket.
    pub(super) fn space_out(&self, attempts: &mut Attempts, bucket: Bucket) {
        if self.throttled_at.is_some() {
            attempts.space_out(self.fair_pause(bucket).mul_f64(0.75 + fraction(attempts.seed) / 2.0));
        }
    }

    /// Scatters looks where one look of any fellow serves all, and the first of them come soon. Without `may_wait` the
    /// first try after a failure comes soon too, because nobody else may look.
    pub(super) fn scatter(&self, attempts: &mut Attempts, bucket: Bucket, may_wait: bool) {
        if self.throttled_at.is_some() && (may_wait || attempts.failures > 1) {
            let chance = fraction(attempts.seed ^ attempts.begun_at.since(self.begun_at).as_millis() as u64);
            attempts.space_out(self.fair_pause(bucket).mul_f64(2.0 * chance));
        }
    }

    /// Keeps apart the looks of fellows that very likely all look, as the members of a group that scales in do. This
    /// needs no throttled call.
    pub(super) fn keep_apart(&self, attempts: &mut Attempts, since: BootInstant, bucket: Bucket) {
        self.spread_first(attempts, since, bucket);
        if self.fellows.is_some() {
            attempts.space_out(self.fair_pause(bucket));
        }
    }

    /// The pause between an instance's calls with which all fellows together call as often as the bucket fills.
    fn fair_pause(&self, bucket: Bucket) -> Duration {
        (Duration::from_secs(self.fellows().into()) / bucket.per_second).min(LOOKS_APART_AT_MOST)
    }

    /// Puts off the first of the looks that nobody waits for, over as long as the fellows' looks take together. This
    /// needs no throttled call.
    pub(super) fn spread_first(&self, attempts: &mut Attempts, since: BootInstant, bucket: Bucket) {
        if self.fellows.is_some() {
            attempts.postpone(since + self.fair_pause(bucket).mul_f64(fraction(attempts.seed)));
        }
    }

    /// Does the same as [`Crowd::spread_first`]. After a throttled call it also assumes a number of fellows if that is
    /// unknown. The look begins early enough to be answered before the deadline.
    pub(super) fn spread_last(&self, attempts: &mut Attempts, now: BootInstant, deadline: BootInstant, bucket: Bucket) {
        let fellows = self.fellows.or(self.throttled_at.map(|_| ASSUMED_FELLOWS));
        Crowd { fellows, ..*self }.spread_first(attempts, now, bucket);
        attempts.next = attempts.next.min(now.max(deadline - LAST_LOOK));
    }

    pub(super) fn is_throttled(&self) -> bool {
        self.throttled_at.is_some()
    }

    /// Tells whether few instances are known to have the same owner.
    pub(super) fn is_small(&self) -> bool {
        self.fellows.is_some_and(|fellows| usize::try_from(fellows).is_ok_and(|fellows| fellows <= FEW + 1))
    }

    fn fellows(&self) -> u32 {
        self.fellows.unwrap_or(ASSUMED_FELLOWS)
    }
}
