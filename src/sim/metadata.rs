//! The instance metadata service: version 2 only, with session tokens that really expire.
//!
//! Each connection gets the metadata of one instance. An absent item answers 404 with an HTML body, as at AWS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::instance::Instance;
use super::reply::Reply;
use super::world::World;

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// The session tokens of a listener, each with its instance and its end.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<String, (String, Instant)>);

impl World {
    /// The id of the instance with this address.
    pub(crate) fn instance_with_address(&self, address: IpAddr) -> Option<String> {
        let address = address.to_string();
        self.instances.iter().find(|one| one.private_ip == address).map(|instance| instance.id.clone())
    }
}

/// A request to the metadata, as it arrived.
pub(crate) struct MetadataRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a BTreeMap<String, String>,
}

pub(crate) fn answer(world: &mut World, tokens: &mut Tokens, instance: &str, asked: &MetadataRequest) -> Reply {
    let path = asked.path.split('?').next().unwrap_or_default();
    match (asked.method, path) {
        ("PUT", "/latest/api/token") => put_token(world, tokens, instance, asked),
        ("GET", path) => {
            let token = asked.headers.get(TOKEN_HEADER).filter(|token| token.ends_with(&suffix(world)));
            let given = token.and_then(|token| tokens.0.get(token));
            match given.filter(|(to, until)| to == instance && *until > world.now) {
                None => page(401, "Unauthorized"),
                Some(_) => item(world, instance, path).map_or_else(|| page(404, "Not Found"), plain),
            }
        }
        _ => page(405, "Method Not Allowed"),
    }
}

/// An HTML page, served as plain text like all items.
pub(crate) fn page(status: u16, title: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\n <head>\n  \
         <title>{status} - {title}</title>\n </head>\n <body>\n  <h1>{status} - {title}</h1>\n </body>\n</html>\n"
    );
    Reply::new(status, "text/plain", body)
}

fn plain(body: String) -> Reply {
    Reply::new(200, "text/plain", body)
}

fn put_token(world: &mut World, tokens: &mut Tokens, instance: &str, asked: &MetadataRequest) -> Reply {
    if asked.headers.contains_key("x-forwarded-for") {
        return page(403, "Forbidden");
    }
    let ttl = asked.headers.get(TTL_HEADER).and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = ttl.filter(|ttl| (1..=21600).contains(ttl)) else { return page(400, "Bad Request") };
    let ttl = Duration::from_secs(seconds);
    // The header does not show the cap, so a client that trusts it gets a 401.
    let ttl = world.settings.token_ttl_cap.map_or(ttl, |cap| ttl.min(cap));
    let token = format!("{}{}", world.uuid().replace('-', "AQ"), suffix(world));
    tokens.0.insert(token.clone(), (instance.to_owned(), world.now + ttl));
    plain(token).with_header("x-aws-ec2-metadata-token-ttl-seconds", seconds.to_string())
}

/// The suffix of valid tokens. It changes when all tokens expire at once.
fn suffix(world: &World) -> String {
    format!("{}==", world.token_generation)
}

fn item(world: &mut World, id: &str, path: &str) -> Option<String> {
    let path = path.strip_prefix("/latest/")?;
    if path == "dynamic/instance-identity/document" {
        return Some(identity_document(world, world.instance(id)?));
    }
    let path = path.strip_prefix("meta-data/")?.trim_end_matches('/');
    if let Some(rest) = path.strip_prefix("iam/") {
        return iam(world, rest);
    }
    let instance = world.instance(id)?;
    if let Some(rest) = path.strip_prefix("network/interfaces/macs") {
        return interfaces(world, instance, rest);
    }
    let place = &instance.place;
    if let Some(rest) = path.strip_prefix("tags/instance") {
        return tags(world, instance, rest);
    }
    Some(match path {
        "" => directory(),
        "instance-id" => instance.id.clone(),
        "instance-type" => place.instance_type.clone(),
        "instance-life-cycle" => place.life_cycle.as_str().to_owned(),
        "local-ipv4" => instance.private_ip.clone(),
        "mac" => mac(instance),
        "ami-id" => "ami-0123456789abcdef0".to_owned(),
        "placement/region" => world.settings.region.clone(),
        "services/domain" => "amazonaws.com".to_owned(),
        "services/partition" => world.settings.partition.clone(),
        "placement/availability-zone" => place.zone.clone(),
        "spot/instance-action" => {
            let notice = instance.notice.as_ref()?;
            json!({"action": notice.action, "time": notice.time}).to_string()
        }
        "spot/termination-time" => instance.notice.as_ref().filter(|notice| notice.action == "terminate")?.time.clone(),
        "events/recommendations/rebalance" => json!({"noticeTime": instance.rebalance.as_ref()?}).to_string(),
        "events/maintenance/scheduled" => world.scheduled_events.clone()?,
        "autoscaling/target-lifecycle-state" => instance.target_lifecycle_state.clone()?,
        _ => return None,
    })
}

/// The MAC address of the instance's network interface, made from its private address.
fn mac(instance: &Instance) -> String {
    let address: std::net::Ipv4Addr = instance.private_ip.parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
    let [a, b, c, d] = address.octets();
    format!("02:2a:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The items below the one network interface, whose directory is its MAC address.
fn interfaces(world: &World, instance: &Instance, rest: &str) -> Option<String> {
    let mac = mac(instance);
    let Some(item) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
        return Some(format!("{mac}/"));
    };
    match item.strip_prefix(&mac)?.trim_matches('/') {
        "" => {
            let is_there = |name: &&str| interfaces(world, instance, &format!("/{mac}/{name}")).is_some();
            let names = ["device-number", "ipv6s", "local-ipv4s", "mac", "subnet-id", "vpc-id"];
            Some(names.into_iter().filter(is_there).collect::<Vec<_>>().join("\n"))
        }
        "ipv6s" => world.settings.ipv6.then(|| instance.ipv6_address()),
        "device-number" => Some("0".to_owned()),
        "local-ipv4s" => Some(instance.private_ip.clone()),
        "mac" => Some(mac),
        "subnet-id" => Some(instance.place.subnet.clone()),
        "vpc-id" => Some(world.settings.vpc.clone()).filter(|_| world.settings.vpc_in_metadata),
        _ => None,
    }
}

fn directory() -> String {
    let entries = ["ami-id", "autoscaling/", "events/", "iam/", "instance-id", "instance-life-cycle", "instance-type"];
    let more = ["local-ipv4", "mac", "network/", "placement/", "services/", "spot/", "tags/"];
    entries.into_iter().chain(more).collect::<Vec<_>>().join("\n")
}

fn tags(world: &World, instance: &Instance, rest: &str) -> Option<String> {
    if !world.settings.tags_in_metadata {
        return None;
    }
    match rest.strip_prefix('/') {
        Some(key) => instance.tags.get(key).cloned(),
        None if rest.is_empty() => Some(instance.tags.keys().cloned().collect::<Vec<_>>().join("\n")),
        None => None,
    }
}

fn iam(world: &mut World, path: &str) -> Option<String> {
    let role = world.settings.role.clone()?;
    if path == "security-credentials" {
        return Some(role);
    }
    if path == "info" {
        let arn = format!("arn:aws:iam::{}:instance-profile/{role}", world.settings.account);
        let info = json!({"Code": "Success", "InstanceProfileArn": arn, "InstanceProfileId": "AIPASIMULATED"});
        return Some(format!("{info:#}"));
    }
    if path.strip_prefix("security-credentials/")? != role {
        return None;
    }
    let issued = world.credentials.issue(world.now);
    let credentials = json!({
        "Code": "Success",
        "LastUpdated": world.clock.iso(issued.issued),
        "Type": "AWS-HMAC",
        "AccessKeyId": issued.access_key_id,
        "SecretAccessKey": "a-secret-of-the-simulator",
        "Token": format!("token-of-{}", issued.access_key_id),
        "Expiration": world.clock.iso(issued.expires),
    });
    Some(format!("{credentials:#}"))
}

fn identity_document(world: &World, instance: &Instance) -> String {
    let document = json!({
        "accountId": world.settings.account,
        "architecture": "x86_64",
        "availabilityZone": instance.place.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": "ami-0123456789abcdef0",
        "instanceId": instance.id,
        "instanceType": instance.place.instance_type,
        "kernelId": null,
        "pendingTime": world.clock.iso(instance.launched),
        "privateIp": instance.private_ip,
        "ramdiskId": null,
        "region": world.settings.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Settings;

    #[test]
    fn the_directory_of_an_interface_lists_what_it_has() {
        for (ipv6, vpc_in_metadata) in [(false, false), (true, true)] {
            let mut world = World::new(Settings { ipv6, vpc_in_metadata, ..Settings::default() });
            let id = world.instances.first().map(|one| one.id.clone()).unwrap();
            let macs = "/latest/meta-data/network/interfaces/macs/";
            let mac = item(&mut world, &id, macs).unwrap();
            let listed = item(&mut world, &id, &format!("{macs}{mac}")).unwrap();
            let lists = |name: &str| listed.lines().any(|line| line == name);
            assert_eq!((lists("ipv6s"), lists("vpc-id"), lists("subnet-id")), (ipv6, vpc_in_metadata, true));
        }
    }

    #[test]
    fn an_instance_is_known_by_its_address() {
        let world = World::new(Settings::default());
        for instance in &world.instances {
            let asked_from = instance.private_ip.parse().unwrap();
            assert_eq!(world.instance_with_address(asked_from).as_ref(), Some(&instance.id));
        }
        assert_eq!(world.instance_with_address("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_token_of_one_instance_opens_no_metadata_of_another() {
        let mut world = World::new(Settings::default());
        let ids: Vec<String> = world.instances.iter().map(|one| one.id.clone()).collect();
        let mut tokens = Tokens::default();
        let headers = BTreeMap::from([(TTL_HEADER.to_owned(), "60".to_owned())]);
        let put = MetadataRequest { method: "PUT", path: "/latest/api/token", headers: &headers };
        let token = answer(&mut world, &mut tokens, ids.first().unwrap(), &put).body;
        let headers = BTreeMap::from([(TOKEN_HEADER.to_owned(), token)]);
        let get = MetadataRequest { method: "GET", path: "/latest/meta-data/instance-id", headers: &headers };
        let statuses = ids.iter().map(|id| answer(&mut world, &mut tokens, id, &get).status);
        assert_eq!(statuses.collect::<Vec<_>>(), [200, 401, 401]);
    }
}
