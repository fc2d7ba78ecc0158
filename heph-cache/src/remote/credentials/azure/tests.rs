use super::super::service::Service;
use super::*;

#[test]
fn accounts_are_found_in_variables_and_connection_strings() {
    assert!(Account::find(&Access::with(&[])).is_err());
    let key = Account::find(&Access::with(&[
        ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
        ("AZURE_STORAGE_ACCESS_KEY", "k="),
    ]))
    .unwrap();
    assert!(matches!(key.identity, Identity::Key(key) if key == "k="));
    let text =
        "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=k==;EndpointSuffix=core.chinacloudapi.cn";
    let all = Account::find(&Access::with(&[("AZURE_STORAGE_CONNECTION_STRING", text)])).unwrap();
    assert_eq!(
        (all.name.as_str(), all.endpoint.as_deref()),
        ("acc", Some("https://acc.blob.core.chinacloudapi.cn"))
    );
    assert!(matches!(all.identity, Identity::Key(key) if key == "k=="));
    let client = [
        ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
        ("AZURE_CLIENT_ID", "i"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_SECRET", "s"),
    ];
    assert!(matches!(
        Account::find(&Access::with(&client)).unwrap().identity,
        Identity::Client { .. }
    ));
    assert!(matches!(
        Account::find(&Access::with(&client[..3])).unwrap().identity,
        Identity::Managed { .. }
    ));
}

#[tokio::test]
async fn the_identity_of_a_machine_gives_a_token() {
    let service = Service::new(&[(
        "GET /identity",
        r#"{"access_token":"token-got","expires_on":"4102444800"}"#,
    )]);
    let managed = |url: String| {
        let access = Access::with(&[]);
        let scrubber = Scrubber::new(&access, None);
        Managed::new(url, Some("header-secret".to_owned()), None, &access, scrubber).unwrap()
    };
    let token = managed(format!("{}/identity", service.url))
        .fetch()
        .await
        .unwrap();
    assert!(matches!(&*token.value, AzureCredential::BearerToken(token) if token == "token-got"));
    assert!(
        service
            .requests()
            .concat()
            .contains("x-identity-header: header-secret")
    );
    let error = managed(format!("{}/other", service.url))
        .fetch()
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, RemoteErrorKind::Credentials, "{error}");
    assert!(error.message.contains("AZURE_STORAGE_ACCESS_KEY"), "{error}");
}
