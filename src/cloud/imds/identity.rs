//! This instance's identity, by the identity document and the items beside it.
//!
//! Invariant: everything is bounded before it is used in a URL, a header or a call. Only the instance's id and its region
//! have to be known; what else is missing is no reason not to work.

use std::net::Ipv6Addr;

use serde_json::Value;
use tokio::time::timeout;

use super::{Imds, ImdsError, LIMIT};
use crate::core::model::{Identity, InstanceId, LifeCycle};

const LONGEST: usize = 64;
/// No more than this many network interfaces are asked for their addresses, and this many addresses of each taken:
/// bounds of ours.
const MOST_INTERFACES: usize = 15;
const MOST_ADDRESSES: usize = 50;
const INTERFACES: &str = "latest/meta-data/network/interfaces/macs/";

/// Items of the network interfaces; each is `None` where the metadata does not tell it.
#[derive(Default)]
struct Network {
    vpc_id: Option<String>,
    subnet_id: Option<String>,
    ipv6_addresses: Option<Vec<String>>,
}

impl Imds {
    /// The instance identity document together with `instance-life-cycle`. What the document does not tell is asked for by
    /// itself. The region is never the zone less its last letter (wrong in Local Zones).
    ///
    /// # Errors
    /// The instance's id or its region is missing, or cannot be right.
    pub async fn identity(&self) -> Result<Identity, ImdsError> {
        // An unreadable document tells nothing, like an absent one.
        let document = self.get("latest/dynamic/instance-identity/document").await.ok().and_then(|look| look.body);
        let document: Value = serde_json::from_str(&document.unwrap_or_default()).unwrap_or_default();
        let instance_id = match self.item(&document, "instanceId", "instance-id").await? {
            Some(odd) if !is_instance_id(&odd) => self.confirmed(odd, "instanceId", "instance-id").await?,
            id => id,
        };
        let region = self.item(&document, "region", "placement/region").await?;
        let Network { vpc_id, subnet_id, ipv6_addresses } = self.network().await;
        let identity = Identity {
            instance_id: InstanceId::new(needed(instance_id, "instanceId")?),
            region: needed(region, "region")?,
            availability_zone: self.optional(&document, "availabilityZone", "placement/availability-zone").await,
            instance_type: self.optional(&document, "instanceType", "instance-type").await,
            // An IPv6-only instance has none; only `ip` target groups want it.
            private_ip: self.optional(&document, "privateIp", "local-ipv4").await,
            ipv6_addresses,
            account_id: field(&document, "accountId").unwrap_or_default(),
            vpc_id,
            subnet_id,
            life_cycle: self.life_cycle().await,
        };
        Ok(identity)
    }

    /// The document's, or the one that stands by itself.
    async fn item(&self, document: &Value, key: &'static str, path: &str) -> Result<Option<String>, ImdsError> {
        if let Some(value) = field(document, key) {
            return Ok(Some(value));
        }
        let body = self.get(&format!("latest/meta-data/{path}")).await?.body;
        body.map(|body| body.trim().to_owned()).filter(|body| !body.is_empty()).map(|body| sound(body, key)).transpose()
    }

    /// An odd value of the document, if the item that stands by itself says the same.
    async fn confirmed(&self, odd: String, key: &'static str, path: &str) -> Result<Option<String>, ImdsError> {
        let alone = self.item(&Value::Null, key, path).await?;
        match alone {
            None => Ok(Some(odd)),
            Some(alone) if alone == odd || is_instance_id(&alone) => Ok(Some(alone)),
            _ => Err(ImdsError::Odd(key)),
        }
    }

    async fn optional(&self, document: &Value, key: &'static str, path: &str) -> String {
        self.item(document, key, path).await.ok().flatten().unwrap_or_default()
    }

    /// Reads the items of the network interfaces, up to the first item that it does not answer: the items after that
    /// would cost a limit each. EC2 tells these too.
    async fn network(&self) -> Network {
        let mut network = Network::default();
        if self.read_first_interface(&mut network).await.is_ok() {
            let addresses = timeout(LIMIT, self.ipv6_addresses()).await;
            network.ipv6_addresses = addresses.ok().and_then(Result::ok);
        }
        network
    }

    /// The first network interface, by its MAC address.
    async fn read_first_interface(&self, network: &mut Network) -> Result<(), ImdsError> {
        let item = async |path: &str| Ok::<_, ImdsError>(self.get(path).await?.body.as_deref().and_then(first_line));
        let mac = match item("latest/meta-data/mac").await? {
            None => item(INTERFACES).await?,
            mac => mac,
        };
        let Some(mac) = mac else { return Ok(()) };
        network.vpc_id = item(&format!("{INTERFACES}{mac}/vpc-id")).await?;
        network.subnet_id = item(&format!("{INTERFACES}{mac}/subnet-id")).await?;
        Ok(())
    }

    /// The IPv6 addresses of all network interfaces.
    async fn ipv6_addresses(&self) -> Result<Vec<String>, ImdsError> {
        let macs = self.get(INTERFACES).await?.body.unwrap_or_default();
        let mut addresses = Vec::new();
        for mac in macs.lines().filter_map(first_line).take(MOST_INTERFACES) {
            let listed = self.get(&format!("{INTERFACES}{mac}/ipv6s")).await?.body.unwrap_or_default();
            let sound = listed.lines().filter_map(|line| line.trim().parse::<Ipv6Addr>().ok());
            addresses.extend(sound.take(MOST_ADDRESSES).map(|address| address.to_string()));
        }
        Ok(addresses)
    }

    /// A Spot instance's where the metadata does not say: the notice is what this program waits for.
    async fn life_cycle(&self) -> LifeCycle {
        let body = self.get("latest/meta-data/instance-life-cycle").await.ok().and_then(|look| look.body);
        match body.as_deref().map(str::trim) {
            Some("on-demand" | "scheduled" | "capacity-block") => LifeCycle::OnDemand,
            _ => LifeCycle::Spot,
        }
    }
}

/// `i-` and 8 or 17 hexadecimal digits.
fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-")
        .is_some_and(|digits| matches!(digits.len(), 8 | 17) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Tells whether the text can be a part of a path, or an id.
fn first_line(body: &str) -> Option<String> {
    let line = body.lines().map(|line| line.trim().trim_end_matches('/')).find(|line| !line.is_empty())?;
    sound(line.to_owned(), "network interface").ok()
}

/// A text of the document, if it is one that can be used.
fn field(document: &Value, key: &'static str) -> Option<String> {
    let text = document.get(key)?.as_str()?.trim();
    sound(text.to_owned(), key).ok().filter(|text| !text.is_empty())
}

fn needed(value: Option<String>, name: &'static str) -> Result<String, ImdsError> {
    value.ok_or(ImdsError::Missing(name))
}

fn sound(text: String, name: &'static str) -> Result<String, ImdsError> {
    let also: &[u8] = match name {
        // It becomes a part of a host's name.
        "region" | "instanceId" | "accountId" => b"-",
        _ => b"-_.:",
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
    let is_sound = text.len() <= LONGEST && text.bytes().all(is_letter);
    if is_sound { Ok(text) } else { Err(ImdsError::Odd(name)) }
}
