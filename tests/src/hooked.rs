//! An Auto Scaling group whose instances wait in their hooks, since nothing emulates that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Form, State},
    http::StatusCode,
    routing::post,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The group's name.
pub const HOOKED: &str = "hooked";

/// Answers as Auto Scaling does to the calls of an autoscaler. It launches and ends nothing: its
/// instances are in the states that they are put into.
#[derive(Debug)]
pub struct HookedGroup {
    url: String,
    state: Shared,
    server: JoinHandle<()>,
}

type Shared = Arc<Mutex<Known>>;

#[derive(Debug, Default)]
struct Known {
    desired: u32,
    /// Id and lifecycle state.
    instances: Vec<(String, String)>,
    calls: Vec<String>,
}

impl HookedGroup {
    /// Starts it with these instances and as many desired as it is told.
    pub async fn start(desired: u32, instances: &[(&str, &str)]) -> Self {
        let own = |(id, state): &(&str, &str)| ((*id).to_owned(), (*state).to_owned());
        let instances = instances.iter().map(own).collect();
        let state: Shared = Arc::new(Mutex::new(Known { desired, instances, calls: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().route("/", post(answer)).with_state(state.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { url, state, server }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many instances it was told to have.
    pub fn desired(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).desired
    }

    /// The calls that changed anything.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }
}

impl Drop for HookedGroup {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(state): State<Shared>,
    Form(form): Form<HashMap<String, String>>,
) -> Result<String, StatusCode> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let action = form.get("Action").ok_or(StatusCode::BAD_REQUEST)?;
    let result = match action.as_str() {
        "DescribeAutoScalingGroups" => described(&state),
        "DescribeScalingActivities" => "<Activities/>".to_owned(),
        "SetDesiredCapacity" => {
            let desired = form.get("DesiredCapacity").and_then(|it| it.parse().ok());
            state.desired = desired.ok_or(StatusCode::BAD_REQUEST)?;
            let call = format!("{action} {}", state.desired);
            state.calls.push(call);
            String::new()
        }
        _ => {
            state.calls.push(action.clone());
            String::new()
        }
    };
    Ok(format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    ))
}

fn described(state: &Known) -> String {
    let member = |(id, lifecycle): &(String, String)| {
        format!(
            "<member><InstanceId>{id}</InstanceId><InstanceType>c7g.large</InstanceType>\
             <AvailabilityZone>us-east-1a</AvailabilityZone><LifecycleState>{lifecycle}</LifecycleState>\
             <HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>true</ProtectedFromScaleIn>\
             </member>"
        )
    };
    let instances: String = state.instances.iter().map(member).collect();
    format!(
        "<AutoScalingGroups><member><AutoScalingGroupName>{HOOKED}</AutoScalingGroupName>\
         <MinSize>0</MinSize><MaxSize>9</MaxSize><DesiredCapacity>{}</DesiredCapacity>\
         <Instances>{instances}</Instances></member></AutoScalingGroups>",
        state.desired
    )
}
