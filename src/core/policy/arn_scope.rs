//! The names of AWS's resources: ARNs within one partition, region and account.

/// The parts of every ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArnScope {
    partition: String,
    pub(super) region: String,
    account: String,
}

/// AWS's partitions beside the standard one, by how the names of their regions begin.
const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
];

impl ArnScope {
    /// `*` stands for any region or account. Without a partition the region's name tells it.
    pub fn new(partition: Option<&str>, region: &str, account: &str) -> ArnScope {
        let by_region = || PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |it| it.1);
        let partition = partition.unwrap_or_else(by_region).to_owned();
        ArnScope { partition, region: region.to_owned(), account: account.to_owned() }
    }

    pub(super) fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition, self.region, self.account)
    }

    /// The ARN of resources that belong to no account: images, snapshots.
    pub(super) fn of_aws(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}::{resource}", self.partition, self.region)
    }

    /// The ARN of an Auto Scaling group by its name, whatever its own id.
    pub(super) fn group(&self, name: &str) -> String {
        self.arn("autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{}", literal(name)))
    }

    /// The ARN of a role without a path.
    pub fn role(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:role/{name}", self.partition, self.account)
    }

    /// The names of the EC2 service; in China both spellings occur.
    pub(super) fn ec2_service(&self) -> &'static [&'static str] {
        match self.partition.as_str() {
            "aws-cn" => &["ec2.amazonaws.com", "ec2.amazonaws.com.cn"],
            _ => &["ec2.amazonaws.com"],
        }
    }
}

/// Escapes the signs that IAM takes for a wildcard or a variable's beginning. AWS allows them in a group's name.
fn literal(name: &str) -> String {
    let sign = |sign: char| match sign {
        '*' | '?' | '$' => format!("${{{sign}}}"),
        sign => sign.to_string(),
    };
    name.chars().map(sign).collect()
}
