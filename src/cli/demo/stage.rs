//! The course of the demo: it sets up the world and the daemon, gives the notice, and follows what happens.
//!
//! It decides when the notice comes and when the demo ends. It decides nothing about the handover.

use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::child::{DaemonProcess, Home, SimulatorEndpoints};
use super::story::Story;
use super::story_line::StoryLine;
use super::web::{RequestCount, Web};
use super::world::{self, DemoOwner, Glimpse, INSTANCE_ID, TARGET_GROUP};
use crate::cli::chart;
use crate::cli::screen::{Screen, Tone, wrap};
use crate::core::notice::TWO_MINUTES;
use crate::host::signals::Signals;
use crate::sim::{Request, RequestMoment, Sim};

/// The pause between two looks at the world while nothing arrives.
const TICK: Duration = Duration::from_millis(50);
/// The limit for the daemon to start and look everything up; its start jitter is almost zero here.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The limit for the record, which the daemon writes right after the last milestone.
const RECORD_WITHIN: Duration = Duration::from_secs(2);
/// The pause between two quick requests of the load balancer.
const REQUEST_EVERY: Duration = Duration::from_millis(200);
/// The time between the slow request and the notice.
const OPENED_BEFORE: Duration = Duration::from_millis(500);
/// The time until the slow request is answered. By then the successor usually serves and this instance has settled. So
/// only the open request itself can make the daemon wait.
const SLOW: Duration = Duration::from_secs(45);
const SLOW_WHEN_FAST: Duration = Duration::from_secs(12);

const CONFIG: &str = "# every default\n";
const FAST_CONFIG: &str = "[watch]\ninterval = \"200ms\"\n[leave]\nsettle = \"1s\"\nquiet-for = \"1s\"\n";

/// The result of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DemoResult {
    Complete,
    Incomplete,
    Interrupted,
}

/// An observed event.
enum Observed {
    Log(String),
    LogEnded,
    Request(Box<Request>, RequestMoment),
    Answer(bool),
}

/// The reason why listening ended.
#[derive(PartialEq)]
enum Listened {
    Enough,
    TimeIsUp,
    DaemonEnded,
    Interrupted,
}

pub(super) struct Demo {
    screen: Screen,
    story: Story,
    // Fields are dropped in this order: the daemon ends before its directory is removed.
    daemon: DaemonProcess,
    _home: Home,
    sim: Sim,
    web: Web,
    slow: Duration,
    signals: Signals,
    /// The instant of the last event, so that the timeline never goes back.
    latest: Instant,
    teller: UnboundedSender<(Instant, Observed)>,
    news: UnboundedReceiver<(Instant, Observed)>,
}

impl Demo {
    /// Starts everything; nothing has happened yet.
    pub(super) async fn set(owner: DemoOwner, fast: bool) -> anyhow::Result<Demo> {
        let signals = Signals::new().context("failed to catch signals")?;
        let slow = if fast { SLOW_WHEN_FAST } else { SLOW };
        let web = Web::start(slow).await.context("failed to serve on loopback")?;
        let settings = world::settings(owner, fast, web.port());
        // The simulator has its own thread, so that a slow terminal does not delay it.
        let sim = Sim::start_on_a_thread(settings).context("failed to start the simulator on loopback")?;
        let (teller, news) = unbounded_channel();
        let tell = teller.clone();
        sim.on_request(move |request, moment| {
            let _ = tell.send((Instant::now(), Observed::Request(Box::new(request.clone()), moment)));
        });
        let home = Home::new()?;
        let tell = teller.clone();
        let said = move |line: Option<String>| {
            let _ = tell.send((Instant::now(), line.map_or(Observed::LogEnded, Observed::Log)));
        };
        let endpoints = SimulatorEndpoints { metadata: sim.metadata_endpoint(), aws: sim.aws_endpoint() };
        let daemon = DaemonProcess::start(&home, if fast { FAST_CONFIG } else { CONFIG }, &endpoints, said)?;
        let story = Story::new(Glimpse::of(&sim.snapshot()));
        let mut stage = Demo {
            screen: Screen::new(),
            story,
            daemon,
            _home: home,
            sim,
            web,
            slow,
            signals,
            latest: Instant::now(),
            teller,
            news,
        };
        stage.introduce(owner, fast)?;
        Ok(stage)
    }

    fn introduce(&mut self, owner: DemoOwner, fast: bool) -> anyhow::Result<()> {
        let paint = self.screen.paint;
        let text = format!(
            "The daemon (process {}) is the real one, as on a server. The instance metadata and AWS are simulated, and \
             the web service that it hands over is in this process: nothing leaves this machine. The instance is one of \
             three behind a load balancer; {} launched it.",
            self.daemon.id(),
            world::owner_in_words(owner),
        );
        let mut lines =
            vec![paint.with(Tone::Strong, "A Spot instance gets its two-minute notice, and hands its work over.")];
        lines.extend(wrap(&text, self.screen.width));
        if fast {
            let text = "With --fast the simulated world is quicker than AWS, the daemon looks at the metadata every 0.2 s \
                        (default 1 s), settles for 1 s (default 20 s) and takes 1 s without data for quiet (default 15 \
                        s).";
            lines.extend(wrap(text, self.screen.width));
        }
        lines.push(String::new());
        lines.push(paint.with(Tone::Strong, "Before the notice: what the daemon finds out"));
        self.screen.show(&lines, &[]).context("failed to write")
    }

    pub(super) async fn play(&mut self) -> anyhow::Result<DemoResult> {
        let (sim, in_service) =
            (self.sim.clone(), |(id, _, state): (String, u16, String)| id == INSTANCE_ID && state == "healthy");
        self.web.balance(REQUEST_EVERY, move || sim.targets(TARGET_GROUP).into_iter().any(in_service));
        match self.listen(READY_WITHIN, |story, _| story.is_ready).await? {
            Listened::Enough => {}
            Listened::Interrupted => return self.interrupted(),
            Listened::TimeIsUp => return Err(self.trouble("the daemon was not ready in time")),
            Listened::DaemonEnded => return Err(self.daemon_ended()),
        }
        if self.give_notice().await? == Listened::Interrupted {
            return self.interrupted();
        }
        let over = |story: &Story, count: RequestCount| story.has_handed_over() && count.open() == 0;
        match self.listen(TWO_MINUTES, over).await? {
            Listened::Enough | Listened::TimeIsUp => {}
            Listened::Interrupted => return self.interrupted(),
            Listened::DaemonEnded => return Err(self.daemon_ended()),
        }
        self.close().await
    }

    /// Opens the slow request, and then gives the notice at a full second, because AWS's times have no fractions.
    async fn give_notice(&mut self) -> anyhow::Result<Listened> {
        let mut pause =
            Duration::from_nanos(1_000_000_000 - Timestamp::now().subsec_nanosecond().unsigned_abs() as u64);
        if pause < OPENED_BEFORE {
            pause += Duration::from_secs(1);
        }
        let heard = self.listen(pause - OPENED_BEFORE, |_, _| false).await?;
        if heard != Listened::TimeIsUp {
            return Ok(heard);
        }
        let tell = self.teller.clone();
        self.web.ask_slowly(move |answered| {
            let _ = tell.send((Instant::now(), Observed::Answer(answered)));
        });
        let line = self.story.sent(Instant::now(), self.slow);
        self.show(&[line])?;
        let heard = self.listen(OPENED_BEFORE, |_, _| false).await?;
        if heard != Listened::TimeIsUp {
            return Ok(heard);
        }
        let paint = self.screen.paint;
        let header = paint.with(Tone::Strong, "The notice, and what follows");
        let columns = paint.with(Tone::Faint, "   after  left  (seconds)");
        self.screen.show(&[String::new(), header, columns], &[]).context("failed to write")?;
        self.sim.notice("terminate", TWO_MINUTES);
        let now = Instant::now();
        let time = (Timestamp::now() + TWO_MINUTES).strftime("%H:%M:%SZ").to_string();
        let line = self.story.put_up(now, &time);
        self.show(&[line])?;
        Ok(Listened::Enough)
    }

    /// Shows events until `enough`, or for `limit`.
    async fn listen(
        &mut self,
        limit: Duration,
        enough: impl Fn(&Story, RequestCount) -> bool,
    ) -> anyhow::Result<Listened> {
        let end = Instant::now() + limit;
        loop {
            if enough(&self.story, self.web.count()) {
                return Ok(Listened::Enough);
            }
            if self.story.log_has_ended {
                return Ok(Listened::DaemonEnded);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Listened::TimeIsUp);
            }
            tokio::select! {
                biased;
                _ = self.signals.recv() => return Ok(Listened::Interrupted),
                Some((at, news)) = self.news.recv() => self.hear(at, news)?,
                () = tokio::time::sleep(left.min(TICK)) => self.look(Instant::now())?,
            }
        }
    }

    fn hear(&mut self, at: Instant, news: Observed) -> anyhow::Result<()> {
        let at = self.moment(at);
        let lines = match news {
            Observed::Log(line) => self.story.hear_log(at, &line),
            Observed::LogEnded => {
                self.story.log_has_ended = true;
                Vec::new()
            }
            Observed::Request(request, moment) => {
                let line = self.story.hear_request(at, &request, moment);
                let line: Vec<StoryLine> = line.into_iter().collect();
                self.show(&line)?;
                // The effect of a call is shown before the daemon's line about it.
                return if moment == RequestMoment::Done && request.service != "metadata" {
                    self.look(at)
                } else {
                    Ok(())
                };
            }
            Observed::Answer(answered) => vec![self.story.hear_answer(at, answered)],
        };
        self.show(&lines)
    }

    /// Events arrive one after the other, a little after they happened.
    fn moment(&mut self, at: Instant) -> Instant {
        self.latest = self.latest.max(at);
        self.latest
    }

    fn look(&mut self, at: Instant) -> anyhow::Result<()> {
        let at = self.moment(at);
        let lines = self.story.look(at, Glimpse::of(&self.sim.snapshot()));
        self.show(&lines)
    }

    fn show(&mut self, lines: &[StoryLine]) -> anyhow::Result<()> {
        let Screen { width, paint, .. } = self.screen;
        let lines: Vec<String> = lines.iter().flat_map(|line| line.rendered(width, paint)).collect();
        let picture = self.picture();
        self.screen.show(&lines, &picture).context("failed to write")
    }

    /// The picture under the lines after the notice: the instance, its successor, the time.
    fn picture(&self) -> Vec<String> {
        let Some(gone) = self.story.since_notice(Instant::now()) else { return Vec::new() };
        let Screen { width, paint, .. } = self.screen;
        let glimpse = self.story.glimpse();
        let absent = "not there";
        let (instance, target) = (glimpse.instance.as_deref(), glimpse.target.as_deref());
        let tone = |target: Option<&str>| if target == Some("healthy") { Tone::Good } else { Tone::Plain };
        let successor = match glimpse.successors.first() {
            Some(one) => {
                let target_state = one.target.as_deref().unwrap_or("not registered yet");
                let text = format!("{} {}, target {target_state}", one.id, one.state);
                paint.with(tone(one.target.as_deref()), &text)
            }
            None => paint.with(Tone::Faint, "not launched yet"),
        };
        let (bar, rest) = chart::countdown(gone, TWO_MINUTES, width.saturating_sub(2 + 13 + 12));
        let left = TWO_MINUTES.saturating_sub(gone).as_secs_f64();
        let ours = format!(
            "{INSTANCE_ID} {}, target {}, {} open",
            instance.unwrap_or(absent),
            target.unwrap_or(absent),
            requests(self.web.count().open())
        );
        vec![
            String::new(),
            format!("  {:13}{}", "instance", paint.with(tone(target), &ours)),
            format!("  {:13}{successor}", "successor"),
            format!("  {:13}{}{} {left:>4.0} s left", "two minutes", bar, paint.with(Tone::Faint, &rest)),
        ]
    }

    /// Shows the chart and the summary.
    async fn close(&mut self) -> anyhow::Result<DemoResult> {
        let mut outcome = self.daemon.outcome();
        let end = Instant::now() + RECORD_WITHIN;
        while outcome.is_none() && Instant::now() < end {
            tokio::time::sleep(TICK).await;
            outcome = self.daemon.outcome();
        }
        let count = self.web.count();
        let complete = outcome == Some(true) && self.story.is_proved(count);
        let lines = self.story.closing(count, complete, self.screen.width, self.screen.paint);
        self.screen.show(&lines, &[]).context("failed to write")?;
        Ok(if complete { DemoResult::Complete } else { DemoResult::Incomplete })
    }

    fn interrupted(&mut self) -> anyhow::Result<DemoResult> {
        let line = "Interrupted: the daemon is stopped, and nothing is left behind.".to_owned();
        self.screen.show(&[line], &[]).context("failed to write")?;
        Ok(DemoResult::Interrupted)
    }

    fn daemon_ended(&mut self) -> anyhow::Error {
        let how = self.daemon.how_it_ended();
        self.trouble(&format!("the daemon ended ({how})"))
    }

    fn trouble(&mut self, what: &str) -> anyhow::Error {
        // This removes the picture. An error here matters less than the one that is returned.
        let _ = self.screen.show(&[], &[]);
        let last: Vec<String> = self.story.last_log_lines().map(|line| format!("\n  {line}")).collect();
        if last.is_empty() {
            return anyhow::anyhow!("{what}, and said nothing");
        }
        anyhow::anyhow!("{what}; the last it said:{}", last.concat())
    }
}

fn requests(count: u32) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}
