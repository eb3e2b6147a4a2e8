//! Other programs here that act on a notice, too. Two programs that deregister or drain are mostly harmless. Two that
//! launch, terminate or complete a hook are not.

use std::fs;
use std::path::Path;

use super::finding::Finding;

/// Process names, of which the kernel keeps fifteen letters, and the programs.
const HANDLERS: [(&str, &str); 3] = [
    ("node-termination-handler", "aws-node-termination-handler"),
    ("aws-node-termination-handler", "aws-node-termination-handler"),
    ("lifecycled", "lifecycled"),
];
const LONGEST_NAME: usize = 15;
const DRAINS: &str = "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true";

/// `proc` is `/proc`, `ecs_config` the ECS agent's configuration.
pub(super) fn look(proc: &Path, ecs_config: &Path) -> Vec<Finding> {
    let processes = fs::read_dir(proc).into_iter().flatten().map_while(Result::ok).map(|entry| entry.path());
    let mut others: Vec<String> = Vec::new();
    let mut is_ecs_drained = false;
    for process in processes {
        let Ok(name) = fs::read_to_string(process.join("comm")) else { continue };
        let name = name.trim();
        let known = HANDLERS.iter().find(|(it, _)| it.get(..LONGEST_NAME.min(it.len())) == Some(name));
        others.extend(known.map(|(_, handler)| (*handler).to_owned()));
        // Only root may read the environment of other users' processes; everybody else reads the agent's file.
        let environment = || fs::read(process.join("environ")).unwrap_or_default();
        let drains = || environment().split(|byte| *byte == 0).any(|pair| pair == DRAINS.as_bytes());
        let configured = || fs::read_to_string(ecs_config).is_ok_and(|text| text.lines().any(|it| it.trim() == DRAINS));
        is_ecs_drained |= matches!(name, "agent" | "amazon-ecs-agen") && (drains() || configured());
    }
    if is_ecs_drained {
        others.push("the ECS agent with Spot draining".to_owned());
    }
    others.sort();
    others.dedup();
    let found = |other: String| {
        Finding::warn("other-handler", format!("{other} runs beside spot-relay"))
            .of(other)
            .meaning("both act on a notice: targets may be deregistered, hooks completed and successors launched twice")
            .remedy("stop one of them, or leave each one part of the work only")
    };
    match others.is_empty() {
        true => vec![Finding::ok("other-handler", "no other program that acts on a notice is known to run here")],
        false => others.into_iter().map(found).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::finding::Level;
    use super::*;

    /// A directory as `/proc` with one process.
    fn proc(name: &str, environment: &str) -> PathBuf {
        let proc = std::env::temp_dir().join(format!("spot-relay-beside-{name}-{}", std::process::id()));
        fs::create_dir_all(proc.join("17")).unwrap();
        fs::create_dir_all(proc.join("sys")).unwrap();
        fs::write(proc.join("17/comm"), format!("{name}\n")).unwrap();
        fs::write(proc.join("17/environ"), environment).unwrap();
        proc
    }

    fn look_at(name: &str, environment: &str, ecs_config: &str) -> Vec<Finding> {
        let proc = proc(name, environment);
        fs::write(proc.join("ecs.config"), ecs_config).unwrap();
        let findings = look(&proc, &proc.join("ecs.config"));
        fs::remove_dir_all(proc).unwrap();
        findings
    }

    #[test]
    fn handlers_are_known_by_the_names_that_the_kernel_keeps() {
        for (name, handler) in [
            ("node-terminatio", "aws-node-termination-handler"),
            ("aws-node-termin", "aws-node-termination-handler"),
            ("lifecycled", "lifecycled"),
        ] {
            let findings = look_at(name, "", "");
            assert_eq!(findings[0].level, Level::Warn, "{name}");
            assert_eq!(findings[0].subject.as_deref(), Some(handler));
        }
        assert_eq!(look_at("nginx", DRAINS, DRAINS)[0].level, Level::Ok);
    }

    #[test]
    fn the_ecs_agent_counts_only_where_it_drains() {
        assert_eq!(look_at("agent", "A=b\0ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\0", "")[0].level, Level::Warn);
        assert_eq!(
            look_at("agent", "", "ECS_CLUSTER=x\nECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n")[0].level,
            Level::Warn
        );
        assert_eq!(look_at("agent", "ECS_CLUSTER=x\0", "ECS_CLUSTER=x\n")[0].level, Level::Ok);
    }
}
