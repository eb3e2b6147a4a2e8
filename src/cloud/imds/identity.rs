//! This instance's identity, from the identity document and single metadata items.
//!
//! Invariant: every value is checked before it is used in a URL, a header or a call. Only the instance's id and its
//! region are required; the program works without the other values.

use std::net::Ipv6Addr;

use serde_json::Value;
use tokio::time::timeout;

use super::{Imds, ImdsError, LIMIT};
use crate::core::model::{Identity, InstanceId, LifeCycle};

const LONGEST: usize = 64;
/// The most network interfaces that are asked for their addresses, and the most addresses of each: bounds of ours.
const MOST_INTERFACES: usize = 15;
const MOST_ADDRESSES: usize = 50;
const INTERFACES: &str = "latest/meta-data/network/interfaces/macs/";

/// Items of the network interfaces; each is `None` if the metadata does not have it.
#[derive(Default)]
struct Network {
    vpc_id: Option<String>,
    subnet_id: Option<String>,
    ipv6_addresses: Option<Vec<String>>,
}

impl Imds {
    /// Reads the instance identity document and `instance-life-cycle`. A value that the document lacks is asked for by
    /// itself. The region is never derived from the zone by cutting its last letter (wrong in Local Zones).
    ///
    /// # Errors
    /// The instance's id or its region is missing, or cannot be right.
    pub async fn identity(&self) -> Result<Identity, ImdsError> {
        // An unreadable document counts as an absent one.
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
            // An IPv6-only instance has no such address; only `ip` target groups need it.
            private_ip: self.optional(&document, "privateIp", "local-ipv4").await,
            ipv6_addresses,
            account_id: field(&document, "accountId").unwrap_or_default(),
            vpc_id,
            subnet_id,
            life_cycle: self.life_cycle().await,
        };
        Ok(identity)
    }

    /// The value in the document, or else the metadata item.
    async fn item(&self, document: &Value, key: &'static str, path: &str) -> Result<Option<String>, ImdsError> {
        if let Some(value) = field(document, key) {
            return Ok(Some(value));
        }
        let body = self.get(&format!("latest/meta-data/{path}")).await?.body;
        body.map(|body| body.trim().to_owned()).filter(|body| !body.is_empty()).map(|body| sound(body, key)).transpose()
    }

    /// Returns an odd id of the document if the metadata item is the same, or the item if it is a normal id.
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

    /// Reads the items of the network interfaces up to the first failure: each further one would cost a time limit. EC2
    /// has these values, too.
    async fn network(&self) -> Network {
        let mut network = Network::default();
        if self.read_first_interface(&mut network).await.is_ok() {
            let addresses = timeout(LIMIT, self.ipv6_addresses()).await;
            network.ipv6_addresses = addresses.ok().and_then(Result::ok);
        }
        network
    }

    /// Reads the items of the first network interface, by its MAC address.
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

    /// The life cycle; Spot if the metadata does not say, because this program waits for Spot notices.
    async fn life_cycle(&self) -> LifeCycle {
        let body = self.get("latest/meta-data/instance-life-cycle").await.ok().and_then(|look| look.body);
        match body.as_deref().map(str::trim) {
            Some("on-demand" | "scheduled" | "capacity-block") => LifeCycle::OnDemand,
            _ => LifeCycle::Spot,
        }
    }
}

/// Tells whether the text is `i-` and 8 or 17 hexadecimal digits.
fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-")
        .is_some_and(|digits| matches!(digits.len(), 8 | 17) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The first line that is not empty, without a slash at its end, if it can be a part of a path.
fn first_line(body: &str) -> Option<String> {
    let line = body.lines().map(|line| line.trim().trim_end_matches('/')).find(|line| !line.is_empty())?;
    sound(line.to_owned(), "network interface").ok()
}

/// A text of the document, if it is sound and not empty.
fn field(document: &Value, key: &'static str) -> Option<String> {
    let text = document.get(key)?.as_str()?.trim();
    sound(text.to_owned(), key).ok().filter(|text| !text.is_empty())
}

fn needed(value: Option<String>, name: &'static str) -> Result<String, ImdsError> {
    value.ok_or(ImdsError::Missing(name))
}

fn sound(text: String, name: &'static str) -> Result<String, ImdsError> {
    let also: &[u8] = match name {
        // The value becomes a part of a host name.
        "region" | "instanceId" | "accountId" => b"-",
        _ => b"-_.:",
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
    let is_sound = text.len() <= LONGEST && text.bytes().all(is_letter);
    if is_sound { Ok(text) } else { Err(ImdsError::Odd(name)) }
}
