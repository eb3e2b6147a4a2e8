//! AWS's refusals, in each service's own words.

use super::settings::Settings;
use super::xml::Xml;

/// An error in AWS's form.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

pub(crate) type ApiAnswer = Result<Xml, Refusal>;

impl Refusal {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Refusal {
        Refusal { status: 400, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn with_status(status: u16, code: &str, message: impl Into<String>) -> Refusal {
        Refusal { status, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Refusal {
        Refusal::new("ValidationError", message)
    }

    pub(crate) fn missing_parameter(name: &str) -> Refusal {
        Refusal::new("MissingParameter", format!("The request must contain the parameter {name}"))
    }

    pub(crate) fn malformed(name: &str, value: &str) -> Refusal {
        Refusal::new("InvalidParameterValue", format!("Value ({value}) for parameter {name} is invalid."))
    }

    /// IAM's denial, in the words of each service.
    pub(crate) fn denied(service: &str, settings: &Settings, action: &str) -> Refusal {
        let role = settings.role.as_deref().unwrap_or("nobody");
        let who = format!("arn:aws:sts::{}:assumed-role/{role}/session", settings.account);
        let why = format!("because no identity-based policy allows the {action} action");
        let message = format!("User: {who} is not authorized to perform: {action} {why}");
        match service {
            "ec2" => {
                let message = format!("You are not authorized to perform this operation. {message}");
                Refusal::with_status(403, "UnauthorizedOperation", message)
            }
            _ => Refusal::with_status(403, "AccessDenied", message),
        }
    }

    /// AWS's refusal of tags for a Spot request where no such request is made.
    pub(crate) fn no_spot_request() -> Refusal {
        let message = "'spot-instances-request' is not a valid taggable resource type for this operation.";
        Refusal::new("InvalidParameterValue", message)
    }

    /// Adapts the code: only EC2 has codes for parameters; the other services answer a validation error.
    pub(crate) fn said_by(mut self, service: &str) -> Refusal {
        if service != "ec2" && matches!(self.code.as_str(), "MissingParameter" | "InvalidParameterValue") {
            "ValidationError".clone_into(&mut self.code);
        }
        self
    }

    pub(crate) fn invalid_action(action: &str) -> Refusal {
        Refusal::new("InvalidAction", format!("The action {action} is not valid for this web service."))
    }
}
