//! Getting credentials of Amazon from where they are.

use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::{Method, Url};
use serde_json::Value;

use super::super::{INSTANCE, Temporary, moment, problem, read, read_later, text};
use super::{Provider, Role, SignOn, Source};
use crate::remote::backend::{RemoteError, RemoteErrorKind};
use crate::remote::backends::object_store::plain;
use crate::remote::backends::refusal::element;
use crate::remote::backends::upload::blocking;

/// Time that a program may take.
const PROCESS: Duration = Duration::from_secs(30);

type Found = Result<Temporary<AwsCredential>, RemoteError>;

impl Provider {
    /// The credentials of a source.
    pub(super) fn fetch<'a>(
        &'a self,
        source: &'a Source,
    ) -> Pin<Box<dyn Future<Output = Found> + Send + 'a>> {
        Box::pin(async move {
            match source {
                Source::Fixed(key) => Ok(Temporary {
                    value: Arc::new(AwsCredential {
                        key_id: key.id.clone(),
                        secret_key: key.secret.clone(),
                        token: key.token.clone(),
                    }),
                    expires: None,
                }),
                Source::Process(command) => self.ask_process(command).await,
                Source::WebIdentity { token, role } => {
                    let token = read_later("the web identity token", token).await?;
                    let form = [("WebIdentityToken", token.trim())];
                    self.assume("AssumeRoleWithWebIdentity", role, &form, None).await
                }
                Source::Role { from, role } => {
                    let from = self.fetch(from).await?;
                    self.assume("AssumeRole", role, &[], Some(&from.value)).await
                }
                Source::SignOn(session) => self.ask_sign_on(session).await,
                Source::Container { url, token } => self.ask_container(url, token.as_deref()).await,
                Source::Instance { url } => {
                    let answer = tokio::time::timeout(INSTANCE, self.ask_instance(url)).await;
                    let late = || RemoteError::new(RemoteErrorKind::TimedOut, "no answer within a second");
                    answer.unwrap_or_else(|_| Err(late())).map_err(|error| {
                        problem(format!(
                            "find credentials: there is no AWS_ACCESS_KEY_ID, no profile, no container, and this machine has no role ({error})"
                        ))
                    })
                }
            }
        })
    }

    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>
    async fn ask_process(&self, command: &str) -> Found {
        let failed = |cause: &str| problem(format!("run the credential_process of the profile: {cause}"));
        let child = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .env_clear()
            .envs(&self.chain.access.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let output = match tokio::time::timeout(PROCESS, child.wait_with_output()).await {
            Ok(output) => output.map_err(|error| failed(&error.to_string()))?,
            Err(_) => return Err(failed(&format!("it took more than {} s", PROCESS.as_secs()))),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(failed(&format!("{}: {}", output.status, said.trim())));
        }
        json(&output.stdout, "SessionToken").ok_or_else(|| failed("it printed no credentials"))
    }

    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
    async fn assume(
        &self,
        action: &str,
        role: &Role,
        more: &[(&str, &str)],
        signer: Option<&AwsCredential>,
    ) -> Found {
        let region = role.region.as_deref().unwrap_or(&self.region);
        let suffix = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        let endpoint = match self.chain.access.setting("AWS_ENDPOINT_URL_STS") {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://sts.{region}.{suffix}"),
        };
        let failed = |cause: &str| problem(format!("act as the role '{}': {cause}", role.arn));
        let mut form = vec![
            ("Action", action),
            ("Version", "2011-06-15"),
            ("RoleArn", role.arn.as_str()),
            ("RoleSessionName", role.session.as_str()),
        ];
        form.extend(role.external.as_deref().map(|external| ("ExternalId", external)));
        form.extend_from_slice(more);
        // The path is part of what is signed.
        let url = Url::parse(&format!("{}/", endpoint.trim_end_matches('/')))
            .map_err(|error| failed(&error.to_string()))?;
        let mut query = url.clone();
        query.query_pairs_mut().extend_pairs(&form);
        let body = query.query().unwrap_or_default().to_owned();
        let mut request: HttpRequest = http::Request::post(url.as_str())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "text/xml")
            .body(HttpRequestBody::from(body))
            .map_err(|error| failed(&error.to_string()))?;
        if let Some(signer) = signer {
            AwsAuthorizer::new(signer, "sts", region)
                .try_authorize(&mut request, None)
                .map_err(|error| failed(&error.to_string()))?;
        }
        let (request, _) = plain(request).map_err(|error| failed(&error.to_string()))?;
        let transport = self.remote()?;
        let text = text(transport, request).await.map_err(|error| RemoteError {
            kind: match error.kind {
                RemoteErrorKind::Denied | RemoteErrorKind::Invalid => RemoteErrorKind::Credentials,
                kind => kind,
            },
            message: format!("act as the role '{}': {error}", role.arn),
            ..error
        })?;
        let get = |name: &str| element(&text, name).ok_or_else(|| failed("the answer has no credentials"));
        Ok(Temporary {
            value: Arc::new(AwsCredential {
                key_id: get("AccessKeyId")?,
                secret_key: get("SecretAccessKey")?,
                token: Some(get("SessionToken")?),
            }),
            expires: moment(&get("Expiration")?),
        })
    }

    /// <https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html>
    async fn ask_sign_on(&self, session: &Arc<SignOn>) -> Found {
        let cache = Arc::clone(session);
        let token = blocking(move || Ok(token(&cache))).await?.ok_or_else(|| {
            problem(format!(
                "find the single sign-on at {}: it has ended, or never was; `aws sso login` starts it",
                session.start
            ))
        })?;
        let endpoint = match self.chain.access.setting("AWS_ENDPOINT_URL_SSO") {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://portal.sso.{}.amazonaws.com", session.region),
        };
        let url = format!("{endpoint}/federation/credentials");
        let query = [("role_name", &session.role), ("account_id", &session.account)];
        let failed = |cause: String| problem(format!("use the single sign-on at {}: {cause}", session.start));
        let url = Url::parse_with_params(&url, query).map_err(|error| failed(error.to_string()))?;
        let transport = self.remote()?;
        let request = transport
            .request(Method::GET, url)
            .header("x-amz-sso_bearer_token", token)
            .build();
        let request = request.map_err(|error| failed(error.to_string()))?;
        let text = text(transport, request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        let found = parsed.and_then(|value| {
            let role = value.get("roleCredentials")?;
            let get = |name: &str| Some(role.get(name)?.as_str()?.to_owned());
            let ends = role.get("expiration")?.as_u64()?;
            Some(Temporary {
                value: Arc::new(AwsCredential {
                    key_id: get("accessKeyId")?,
                    secret_key: get("secretAccessKey")?,
                    token: get("sessionToken"),
                }),
                expires: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(ends)),
            })
        });
        found.ok_or_else(|| failed("the answer has no credentials".to_owned()))
    }

    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>
    async fn ask_container(&self, url: &str, token: Option<&str>) -> Found {
        let failed = |cause: String| problem(format!("get the credentials of this container: {cause}"));
        let parsed = Url::parse(url).map_err(|error| failed(error.to_string()))?;
        let host = parsed.host_str().unwrap_or_default();
        let beside = matches!(
            host,
            "localhost" | "127.0.0.1" | "[::1]" | "169.254.170.2" | "169.254.170.23" | "[fd00:ec2::23]"
        );
        if parsed.scheme() != "https" && !beside {
            return Err(failed(format!(
                "'{host}' is not this machine, and is asked without TLS"
            )));
        }
        let transport = if parsed.scheme() == "https" {
            self.remote()?
        } else {
            &self.local
        };
        let mut builder = transport.request(Method::GET, parsed);
        if let Some(token) = token {
            builder = builder.header("authorization", token);
        }
        let request = builder.build().map_err(|error| failed(error.to_string()))?;
        let text = text(transport, request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        json(text.as_bytes(), "Token").ok_or_else(|| failed("the answer has no credentials".to_owned()))
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
    async fn ask_instance(&self, url: &str) -> Found {
        let ask = async |method: Method, path: &str, name: &'static str, value: &str| {
            let wrong = |error: &dyn std::fmt::Display| problem(format!("ask {url}: {error}"));
            let url = Url::parse(&format!("{url}/latest/{path}")).map_err(|error| wrong(&error))?;
            let request = self.local.request(method, url).header(name, value).build();
            text(&self.local, request.map_err(|error| wrong(&error))?).await
        };
        const TOKEN: &str = "x-aws-ec2-metadata-token";
        let token = ask(
            Method::PUT,
            "api/token",
            "x-aws-ec2-metadata-token-ttl-seconds",
            "21600",
        )
        .await?;
        const ROLES: &str = "meta-data/iam/security-credentials/";
        let roles = ask(Method::GET, ROLES, TOKEN, &token).await?;
        let role = roles.lines().next().unwrap_or_default().trim();
        let text = ask(Method::GET, &format!("{ROLES}{role}"), TOKEN, &token).await?;
        json(text.as_bytes(), "Token").ok_or_else(|| problem("the answer has no credentials"))
    }
}

/// Credentials as programs, containers and instances give them.
fn json(bytes: &[u8], token: &str) -> Option<Temporary<AwsCredential>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let get = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    Some(Temporary {
        value: Arc::new(AwsCredential {
            key_id: get("AccessKeyId")?,
            secret_key: get("SecretAccessKey")?,
            token: get(token),
        }),
        expires: get("Expiration").and_then(|text| moment(&text)),
    })
}

/// The token that `aws sso login` left for a start URL, while it lasts.
fn token(session: &SignOn) -> Option<String> {
    std::fs::read_dir(&session.cache)
        .ok()?
        .flatten()
        .find_map(|entry| {
            let text = read("a token", &entry.path()).ok()?;
            let value: Value = serde_json::from_str(&text).ok()?;
            let get = |name: &str| value.get(name)?.as_str();
            let ours = get("startUrl")?.trim_end_matches('/') == session.start.trim_end_matches('/');
            let lasts = moment(get("expiresAt")?).is_some_and(|end| end > SystemTime::now());
            (ours && lasts)
                .then(|| get("accessToken").map(str::to_owned))
                .flatten()
        })
}
