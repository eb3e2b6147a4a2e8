//! The instance types of this world, and DescribeInstanceTypes.

use super::answers::{paged, unknown_filter};
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::world::World;
use super::xml::Xml;

/// Name, vCPUs, and memory in MiB.
const TYPES: [(&str, u32, u32); 7] = [
    ("c5.large", 2, 4_096),
    ("c5.xlarge", 4, 8_192),
    ("m5.large", 2, 8_192),
    ("m5.xlarge", 4, 16_384),
    ("m5.2xlarge", 8, 32_768),
    ("r5.large", 2, 16_384),
    ("t3.medium", 2, 4_096),
];

/// The memory of a type in MiB; 0 for an unknown type.
pub(crate) fn memory_mib(name: &str) -> u32 {
    TYPES.iter().find(|(known, ..)| *known == name).map_or(0, |(_, _, memory)| *memory)
}

pub(crate) fn describe_instance_types(_: &World, query: &Query) -> ApiAnswer {
    let names = query.list("InstanceType");
    if let Some(name) = names.iter().find(|name| memory_mib(name) == 0) {
        let message = format!("The following supplied instance types do not exist: [{name}]");
        return Err(Refusal::new("InvalidInstanceType", message));
    }
    let mut found = Vec::new();
    for one in TYPES.iter().filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name)) {
        let mut admitted = true;
        for filter in query.filters() {
            admitted &= match filter.name.as_str() {
                "instance-type" => filter.admits(one.0),
                _ => return Err(unknown_filter(&filter)),
            };
        }
        if admitted {
            found.push(one);
        }
    }
    let (found, next) = paged(found, query)?;
    let items = found.into_iter().map(|(name, vcpus, memory)| {
        Xml::new()
            .text("instanceType", name)
            .text("currentGeneration", true)
            .nest("vCpuInfo", Xml::new().text("defaultVCpus", vcpus))
            .nest("memoryInfo", Xml::new().text("sizeInMiB", memory))
    });
    Ok(Xml::new().list("instanceTypeSet", "item", items).option("nextToken", next))
}
