//! Takes over the identity of this instance: the first one begins a life, and a different one is not believed at once.

use std::sync::Arc;

use tracing::{info, warn};

use super::Daemon;
use super::events::{Event, Purpose};
use super::identify::{self, Connected, IDENTIFY};
use super::options::Options;
use super::preparation::Preparation;
use crate::core::life::Life;
use crate::core::model::{BootInstant, Identity, LifeCycle};
use crate::core::retry;
use crate::host::boot;

impl Daemon {
    /// Reads the identity. Connects to AWS if it is not connected, if the connections are dead, or if this may be
    /// another instance.
    pub(super) fn begin_identify(&mut self) {
        let connects = self.aws.is_none() || self.life.is_none() || self.reconnect || self.another.is_some();
        let (imds, clock) = (self.imds.clone(), self.clock.clone());
        let (files, tally) = (self.options.files.clone(), self.measures.tally());
        self.measures.identifies(self.identify_failures);
        let identify = async move {
            let identity = identify::identity(&imds).await?;
            if !connects {
                return Ok((identity, None));
            }
            let connected = identify::connect_as(&identity, &imds, clock, files, tally).await?;
            Ok((identity, Some(Box::new(connected))))
        };
        self.begin(Purpose::Identify, async move { Event::Identified(identify.await) });
    }

    /// Tells whether this identity is not to be believed: it is another instance's, for the first time or during a
    /// handover or an arrival. The second time in a row the life begins again. Each round of look-ups reads the
    /// identity again: an odd one does not stay.
    fn is_doubtful(&mut self, identity: &Identity, now: BootInstant) -> bool {
        let Some(life) = &self.life else { return false };
        let known = life.identity();
        if (&known.instance_id, &known.region) == (&identity.instance_id, &identity.region) {
            self.another = None;
            return false;
        }
        if life.handover().is_some() || life.arrival().is_some() {
            self.identify = false;
            return true;
        }
        if self.another.as_ref() != Some(identity) {
            self.another = Some(identity.clone());
            self.identify_at = now + IDENTIFY.first;
            return true;
        }
        warn!(
            "the metadata says that this instance is {} in {}, not {} in {}: beginning again as that instance",
            identity.instance_id, identity.region, known.instance_id, known.region
        );
        (self.another, self.life) = (None, None);
        // This instance takes nothing from the one before: neither what is known, nor what is still on its way.
        self.forget_tasks_of_life();
        self.preparation = Preparation::new(self.options.config.leave.when, now);
        self.prepared_lines(&[]);
        false
    }

    pub(super) fn identified(&mut self, result: Result<(Identity, Option<Box<Connected>>), String>) {
        let now = boot::now();
        let (identity, connected) = match result {
            Ok(identified) => identified,
            Err(why) => {
                self.identify_failures += 1;
                if self.identify_failures == 1 {
                    warn!("{why}; still trying");
                }
                self.identify_at = now + IDENTIFY.pause(self.identify_failures, retry::seed(&self.boot_id));
                return;
            }
        };
        if self.is_doubtful(&identity, now) {
            return;
        }
        // A machine that stood still meanwhile has to connect again.
        (self.identify, self.identify_failures) = (self.reconnect && connected.is_none(), 0);
        let mut record = Ok(None);
        if let Some(connected) = connected {
            if std::mem::take(&mut self.reconnect) || self.aws.is_none() || self.life.is_none() {
                self.aws = Some(Arc::new(connected.aws));
            }
            record = connected.record;
        }
        if let Some(life) = &mut self.life {
            life.identify(identity);
            self.publisher.identified(life.identity());
            return;
        }
        self.publisher.identified(&identity);
        info!(
            "instance {} ({}, {}, {})",
            identity.instance_id,
            identity.instance_type,
            identity.availability_zone,
            if identity.life_cycle == LifeCycle::Spot { "spot" } else { "on demand" },
        );
        if identity.life_cycle == LifeCycle::OnDemand {
            warn!(
                "this is an on-demand instance: AWS gives no Spot notice for it; watching what can still happen to it"
            );
        }
        let record = record.unwrap_or_else(|why| {
            warn!("{why}");
            None
        });
        self.preparation.rounds.begin(&identity, now);
        let Options { config, dry_run, .. } = &self.options;
        self.life = Some(Life::new(identity, self.boot_id.clone(), config.clone(), *dry_run, record));
        self.begin_drill();
        self.tell_early_signals();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cloud::elb::FoundRegistrations;
    use crate::core::config::Config;
    use crate::core::model::{InstanceId, Registration, TargetGroupArn, TargetType};
    use crate::host::files::Files;

    fn daemon() -> Daemon {
        let files = Files::new(Some("/nowhere/state"), Some("/nowhere/run"));
        let (config, metadata_endpoint) = (Config::default(), Some("http://127.0.0.1:9".to_owned()));
        Daemon::new(Options { config, dry_run: false, metadata_endpoint, files, webhook: None, drill: None })
            .expect("a daemon")
    }

    fn identity(id: &str) -> Identity {
        Identity { instance_id: InstanceId::new(id), region: "eu-west-1".into(), ..Identity::default() }
    }

    fn found() -> FoundRegistrations {
        let web = TargetGroupArn::new("arn:aws:elasticloadbalancing:r:1:targetgroup/web/0");
        let registrations = vec![Registration::new(web, TargetType::Instance, Vec::new())];
        FoundRegistrations { registrations, ..FoundRegistrations::default() }
    }

    #[tokio::test]
    async fn another_instance_knows_nothing_of_the_one_before() {
        let mut daemon = daemon();
        daemon.identified(Ok((identity("i-one"), None)));
        daemon.preparation.scanned(Ok(found()), Duration::ZERO, boot::now());
        assert!(daemon.preparation.known().registrations.is_some());
        daemon.begin(Purpose::Scan, async { Event::Scanned(Ok(found()), Duration::ZERO) });
        for _ in 0..2 {
            daemon.identified(Ok((identity("i-two"), None)));
        }
        assert_eq!(daemon.life.as_ref().map(|life| life.identity().instance_id.as_str()), Some("i-two"));
        assert_eq!(daemon.preparation.known().registrations, None);
        let late = daemon.tasks.join_next_with_id().await.expect("a scan of the one before");
        daemon.joined(late);
        assert_eq!(daemon.preparation.known().registrations, None, "nor what is still on its way");
    }

    #[tokio::test]
    async fn a_task_that_died_wakes_nobody_before_its_pause_is_over() {
        let mut daemon = daemon();
        (daemon.look_history.looks, daemon.next_look) = (1, boot::now() + Duration::from_secs(60));
        daemon.deaths.died(Purpose::Identify, boot::now());
        let pause = daemon.wake().since(boot::now());
        assert!(pause > Duration::from_millis(500), "{pause:?}");
    }
}
