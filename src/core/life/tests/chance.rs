//! Whatever happens, in whatever order: what must hold at every moment is asserted by [`Story`], what must hold in the end
//! is asserted here.

use proptest::prelude::*;

use super::story::{Story, arrives, hands_over_for_events, hands_over_on_recommendation};
use super::{closed, is_complete, registrations_of_us};
use crate::core::config::{Then, When};
use crate::core::handover::tests::aws::{Exchange, Fate, OWNERS, Owner};
use crate::core::handover::tests::chance;
use crate::core::life::Closed;
use crate::core::model::{Action, MilestoneKind};

#[derive(Clone, Copy, Debug)]
enum Signal {
    Notice(Action),
    /// With so many seconds to go: another deadline, or none.
    Late(u8),
    Event(u16),
    GroupTerminates,
    /// At the most a recommendation.
    None,
}

#[derive(Clone, Copy, Debug)]
enum Mishap {
    Restart,
    /// No daemon for so many seconds.
    Down(u16),
    StandsStill(u16),
    Boots(u16),
    Shift(i8, Action),
    /// One or two looks without the notice.
    Flap(u8),
    GroupTerminates,
    RecordLost,
}

/// A real interruption, from its first signal to the next one's.
#[derive(Clone, Debug)]
struct Interruption {
    after: u16,
    /// Seconds before its signal, or after.
    recommended: Option<i16>,
    signal: Signal,
    mishaps: Vec<(u16, Mishap)>,
    lasts: u16,
    stale: bool,
}

#[derive(Clone, Debug)]
struct World {
    owner: Owner,
    then: Then,
    when: When,
    arrives: bool,
    healthy_after: u64,
    full: bool,
    interruptions: Vec<Interruption>,
    exchanges: Vec<Exchange>,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![3 => Just(Action::Terminate), 1 => Just(Action::Stop), 1 => Just(Action::Hibernate)]
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        6 => action().prop_map(Signal::Notice),
        1 => (5u8..115).prop_map(Signal::Late),
        2 => (60u16..900).prop_map(Signal::Event),
        1 => Just(Signal::GroupTerminates),
        2 => Just(Signal::None),
    ]
}

fn mishap(of_record: bool) -> impl Strategy<Value = Mishap> {
    prop_oneof![
        4 => Just(Mishap::Restart),
        1 => (1u16..200).prop_map(Mishap::Down),
        1 => (10u16..3_000).prop_map(Mishap::StandsStill),
        1 => (20u16..3_000).prop_map(Mishap::Boots),
        2 => (-30i8..30, action()).prop_map(|(by, action)| Mishap::Shift(by, action)),
        1 => (1u8..3).prop_map(Mishap::Flap),
        1 => Just(Mishap::GroupTerminates),
        u32::from(of_record) => Just(Mishap::RecordLost),
    ]
}

fn interruption(of_record: bool) -> impl Strategy<Value = Interruption> {
    (
        5u16..200,
        prop::option::weighted(0.4, -150i16..60),
        signal(),
        prop::collection::vec((0u16..260, mishap(of_record)), 0..4),
        1u16..300,
        any::<bool>(),
    )
        .prop_map(|(after, recommended, signal, mishaps, lasts, stale)| Interruption {
            after,
            recommended,
            signal,
            mishaps,
            lasts,
            stale,
        })
}

fn exchanges() -> impl Strategy<Value = Vec<Exchange>> {
    let fate = prop_oneof![
        8 => Just(Fate::Fine),
        1 => Just(Fate::LostCall),
        2 => Just(Fate::LostReply),
        1 => Just(Fate::Throttled),
        1 => Just(Fate::Fault),
    ];
    let took = prop_oneof![3 => 0u16..300, 1 => 0u16..4_000];
    prop::collection::vec((fate, took), 0..120)
}

fn world(of_record: bool) -> impl Strategy<Value = World> {
    let then = prop_oneof![4 => Just(Then::Reinstate), 1 => Just(Then::StayOut), 1 => Just(Then::Terminate)];
    (
        prop::sample::select(OWNERS.to_vec()),
        then,
        prop_oneof![Just(When::Auto), Just(When::AtOnce), Just(When::SuccessorHealthy)],
        any::<bool>(),
        prop_oneof![Just(6_000u64), Just(30_000), Just(200_000)],
        prop::bool::weighted(0.2),
        prop::collection::vec(interruption(of_record), 1..4),
        exchanges(),
    )
        .prop_map(|(owner, then, when, arrives, healthy_after, full, interruptions, exchanges)| World {
            owner,
            then,
            when,
            arrives,
            healthy_after,
            full,
            interruptions,
            exchanges,
        })
}

enum Step {
    Recommend,
    Signal(Signal),
    Mishap(Mishap),
    Over,
}

impl World {
    fn begin(&self) -> Story {
        let mut story = Story::with(self.owner, |config| {
            hands_over_on_recommendation(config);
            hands_over_for_events(config);
            config.survive.then = self.then;
            config.leave.when = self.when;
            if self.arrives {
                arrives(config);
            }
        });
        story.aws.healthy_after = self.healthy_after;
        if self.full {
            story.aws.max = story.aws.desired;
        }
        story.run(20);
        story.exchanges(self.exchanges.clone());
        story
    }

    fn live(&self) -> Story {
        let mut story = self.begin();
        for (index, interruption) in self.interruptions.iter().enumerate() {
            story.run(u64::from(interruption.after));
            interruption.happens(&mut story, index);
        }
        story.run(1_800);
        story
    }

    /// One successor an interruption; another one only where the instance had survived in between.
    fn has_one_successor_each(&self, story: &Story, begins: &[u64]) {
        for (index, begin) in begins.iter().enumerate() {
            let end = begins.get(index + 1).copied().unwrap_or(u64::MAX);
            let here = |at: u64| (*begin..end).contains(&at);
            let launches = story.aws.launches.iter().filter(|launch| here(launch.at)).count();
            let mut told = story.milestones.iter().filter(|(at, _)| here(*at)).map(|(_, it)| it.milestone);
            let mut incidents = 1;
            while told.by_ref().any(|kind| kind == MilestoneKind::Survived) {
                let again = |kind| matches!(kind, MilestoneKind::Noticed | MilestoneKind::Recommended);
                incidents += usize::from(told.clone().any(again));
            }
            assert!(launches <= incidents, "{launches} of {incidents} since {begin}: {}", story.tale());
        }
    }

    fn is_settled(&self, story: &Story) {
        if !story.aws.alive {
            return;
        }
        match self.then {
            Then::Reinstate | Then::Terminate => story.is_as_before(),
            Then::StayOut => {
                story.is_tidy();
                if !self.arrives {
                    assert_eq!(registrations_of_us(story), 0, "{}", story.tale());
                    let out = closed(story) == Some(Closed::StayedOut) && is_complete(story);
                    assert!(!out || story.aws.places().is_empty(), "{}", story.tale());
                }
            }
        }
    }
}

impl Interruption {
    fn happens(&self, story: &mut Story, index: usize) {
        let signal_at = story.now + self.recommended.map_or(0, |by| 1_000 * u64::from((-by).max(0).unsigned_abs()));
        let mut steps =
            vec![(signal_at, Step::Signal(self.signal)), (signal_at + 1_000 * u64::from(self.lasts), Step::Over)];
        if let Some(by) = self.recommended.map(|by| by.min(self.lasts.cast_signed() - 1)) {
            steps.push((signal_at.saturating_add_signed(1_000 * i64::from(by)), Step::Recommend));
        }
        // Off the full second, where looks are.
        let mishap = |(after, mishap): &(u16, Mishap)| (signal_at + u64::from(*after) * 997, Step::Mishap(*mishap));
        steps.extend(self.mishaps.iter().map(mishap));
        steps.sort_by_key(|(at, _)| *at);
        for (at, step) in steps {
            story.run_to(at);
            if !story.aws.alive {
                return;
            }
            match step {
                Step::Recommend => story.recommend(),
                Step::Signal(signal) => signal.is_given(story, index),
                Step::Mishap(mishap) => mishap.happens(story),
                Step::Over => {
                    story.recommend_no_more();
                    story.event_is_over();
                    if self.stale { story.goes_stale() } else { story.withdraw() }
                }
            }
        }
    }
}

impl Signal {
    fn is_given(self, story: &mut Story, index: usize) {
        match self {
            Signal::Notice(action) => story.notice(action),
            Signal::Late(seconds) => story.notice_in(Action::Terminate, u64::from(seconds)),
            Signal::Event(seconds) => story.event(&format!("event-{index}"), "system-reboot", u64::from(seconds)),
            Signal::GroupTerminates => Mishap::GroupTerminates.happens(story),
            Signal::None => {}
        }
    }
}

impl Mishap {
    fn happens(self, story: &mut Story) {
        match self {
            Mishap::Restart => story.restart(),
            Mishap::Down(seconds) => {
                story.kill();
                story.run(u64::from(seconds));
                if story.aws.alive {
                    story.start();
                }
            }
            Mishap::StandsStill(seconds) => story.stand_still(u64::from(seconds)),
            Mishap::Boots(seconds) => story.boot_anew(u64::from(seconds)),
            Mishap::Shift(seconds, action) => story.shift(1_000 * i64::from(seconds), action),
            Mishap::Flap(looks) => story.flap(u64::from(looks)),
            Mishap::GroupTerminates => {
                let now = story.now;
                story.aws.group_terminates(now);
            }
            Mishap::RecordLost => {
                story.kill();
                story.lose_record();
                story.start();
            }
        }
    }
}

proptest! {
    #![proptest_config(chance(500))]

    #[test]
    fn an_instance_that_lives_on_is_as_before_whatever_happened(world in world(false)) {
        world.is_settled(&world.live());
    }

    #[test]
    fn an_interruption_has_one_successor_whatever_happens(world in world(false)) {
        let mut story = world.begin();
        let mut begins = Vec::new();
        for (index, interruption) in world.interruptions.iter().enumerate() {
            story.run(u64::from(interruption.after));
            begins.push(story.now);
            interruption.happens(&mut story, index);
        }
        // What stands in the metadata after a boot is news to it.
        begins.extend(&story.boots);
        begins.sort_unstable();
        story.run(600);
        world.has_one_successor_each(&story, &begins);
    }

    #[test]
    fn a_lost_record_breaks_no_rule(world in world(true)) {
        // What cannot be undone without the record stays; what no moment allows is asserted in every one.
        let story = world.live();
        assert!(!story.aws.alive || !story.life().is_handing_over());
    }
}
