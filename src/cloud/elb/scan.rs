//! A scan of every target group of the account and region, where nobody has named one: one call after the other.
//!
//! Invariant: after a throttled answer the scan pauses and then continues at the same place.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::caller::{MOST_PAGES, next};
use super::{Candidate, Elb, FoundRegistrations, PAGE_SIZE, Source, group};
use crate::core::model::{Identity, Registration};
use crate::core::ours::TargetGroup;
use crate::core::retry::{Failure, FailureKind, fraction, seed, takes_turns};

/// The pause between two calls of a lone instance: four calls a second of the account's ten.
const SHORTEST: Duration = Duration::from_millis(250);
/// The calls a second of all instances of one owner together.
const TOGETHER_PER_SECOND: u32 = 4;
/// The calls a second of all instances together, in a scan that nobody waits for.
const SLOWLY_TOGETHER_PER_SECOND: u32 = 1;
/// The longest pause between two calls of a scan that somebody waits for.
const LONGEST: Duration = Duration::from_secs(60);

/// The speed of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanSpeed {
    pause: Duration,
    /// The least time that the whole scan takes.
    over: Option<Duration>,
    /// Many instances may scan at the same moment, so reads that nothing depends on yet wait for a later round.
    pub puts_off: bool,
}

impl ScanSpeed {
    /// The speed of a scan that is the only way to find this instance's registrations: its share of the bucket.
    pub fn last_way(fellows: Option<usize>) -> ScanSpeed {
        let pause = share(fellows, TOGETHER_PER_SECOND).clamp(SHORTEST, LONGEST);
        ScanSpeed { pause, over: None, puts_off: fellows.is_some_and(takes_turns) }
    }

    /// The speed of a scan, over a long time, that adds to registrations already known.
    pub fn slow(fellows: Option<usize>, over: Duration) -> ScanSpeed {
        let pause = share(fellows, SLOWLY_TOGETHER_PER_SECOND).max(SHORTEST);
        ScanSpeed { pause, over: Some(over), puts_off: false }
    }

    pub fn is_slow(self) -> bool {
        self.over.is_some()
    }

    /// The pause before the next call; each group takes one call. It is short while no group is listed.
    pub(crate) fn pause(self, groups: usize, chance: f64) -> Duration {
        let calls = u32::try_from(groups).unwrap_or(u32::MAX);
        let spread = self.over.and_then(|over| over.checked_div(calls)).unwrap_or_default();
        self.pause.max(spread).mul_f64(1.0 + chance)
    }
}

fn share(fellows: Option<usize>, per_second: u32) -> Duration {
    let fellows = fellows.and_then(|fellows| u32::try_from(fellows).ok()).unwrap_or(1);
    Duration::from_secs(fellows.into()) / per_second
}

/// The position of a scan.
struct Cursor {
    /// The next page, whose marker is `None` for the first page; `None` after the last page.
    page: Option<Option<String>>,
    pages: usize,
    /// The groups that are still to be asked.
    groups: VecDeque<TargetGroup>,
    /// The number of groups after the last page; 0 before.
    listed: usize,
}

impl Elb {
    /// Finds this instance's registrations in every target group, like [`Elb::find_registrations`]. It repeats
    /// throttled calls after growing pauses.
    pub async fn scan(
        &self,
        identity: &Identity,
        speed: ScanSpeed,
        known: &[Registration],
    ) -> Result<FoundRegistrations, Failure> {
        let mut found = FoundRegistrations::default();
        let mut cursor = Cursor { page: Some(None), pages: 0, groups: VecDeque::new(), listed: 0 };
        let (mut calls, mut slower) = (0_u32, 1_u32);
        while cursor.page.is_some() || !cursor.groups.is_empty() {
            let chance = fraction(seed(&format!("{} {calls}", identity.instance_id)));
            let is_first = calls == 0;
            calls = calls.saturating_add(1);
            if !is_first {
                tokio::time::sleep(speed.pause(cursor.listed, chance).saturating_mul(slower)).await;
            }
            match self.step(identity, &mut cursor, known, &mut found).await {
                Ok(()) => slower = (slower / 2).max(1),
                Err(failure) if failure.kind == FailureKind::Throttled => slower = (slower * 4).min(64),
                Err(failure) => return Err(failure),
            }
        }
        Ok(found)
    }

    /// Makes one call. If the call fails the cursor does not move.
    async fn step(
        &self,
        identity: &Identity,
        cursor: &mut Cursor,
        known: &[Registration],
        found: &mut FoundRegistrations,
    ) -> Result<(), Failure> {
        if let Some(marker) = &cursor.page {
            let call = self.client.describe_target_groups().page_size(PAGE_SIZE).set_marker(marker.clone());
            let answer = self.caller.call(call.send()).await?;
            cursor.groups.extend(answer.target_groups().iter().filter_map(group));
            cursor.pages += 1;
            cursor.page = next(answer.next_marker()).filter(|_| cursor.pages < MOST_PAGES).map(Some);
            // The next page is not waited for as long as a group is.
            cursor.listed = if cursor.page.is_none() { cursor.groups.len() } else { 0 };
            return Ok(());
        }
        let Some(group) = cursor.groups.front().cloned() else { return Ok(()) };
        let known = known.iter().find(|known| known.target_group == group.arn);
        self.look_into(identity, Candidate { group, known }, Source::Discovery, found).await?;
        cursor.groups.pop_front();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fellows_together_stay_within_their_share_of_the_bucket() {
        for fellows in [1, 4, 100, 200] {
            let pause = ScanSpeed::last_way(Some(fellows)).pause(1, 0.0);
            assert!(fellows as f64 / pause.as_secs_f64() <= 4.0, "{fellows} fellows: {pause:?}");
        }
        assert_eq!(ScanSpeed::last_way(None).pause(1, 0.0), SHORTEST);
    }

    #[test]
    fn a_scan_beside_what_is_known_takes_an_hour_and_a_large_fleet_s_longer() {
        let hour = Duration::from_secs(3600);
        let takes = |fellows, groups: usize| ScanSpeed::slow(Some(fellows), hour).pause(groups, 0.0) * groups as u32;
        assert_eq!(takes(3, 100), hour);
        assert!(takes(300, 100) > hour * 8);
    }

    /// A first page may hold no group that is asked for this instance.
    #[test]
    fn a_page_is_not_waited_for_as_long_as_the_scan_takes() {
        let pause = ScanSpeed::slow(Some(3), Duration::from_secs(3600)).pause(0, 0.0);
        assert_eq!(pause, Duration::from_secs(3));
    }
}
