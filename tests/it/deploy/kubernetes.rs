//! The manifests of Kubernetes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{content, gateway_ends_within, names_to_fill_in, path, text, texts, yaml};
use crate::harness::{packages, workspace};

/// The oldest and the newest Kubernetes whose schemas the manifests fit.
const VERSIONS: [&str; 2] = ["1.31", "1.37"];

fn kustomization() -> Value {
    yaml("kubernetes/kustomization.yaml")
}

fn is_yaml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "yaml")
}

/// The manifests, each with its name.
fn manifests() -> Vec<(String, Value)> {
    let kustomization = kustomization();
    let names = texts(&kustomization["resources"]).into_iter().filter(|name| is_yaml(name));
    names.map(|name| (name.to_owned(), yaml(&format!("kubernetes/{name}")))).collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let all = manifests().into_iter().map(|(_, manifest)| manifest);
    all.filter(|manifest| manifest["kind"] == kind).collect()
}

/// What runs pods.
fn workloads() -> Vec<Value> {
    [of_kind("StatefulSet"), of_kind("Deployment")].concat()
}

fn labels_of(workload: &Value) -> &Value {
    &workload["spec"]["template"]["metadata"]["labels"]
}

/// Whether a selector finds what has these labels.
fn finds(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().expect("labels");
    !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn manifests_fit_the_schemas_of_kubernetes() {
    let files: Vec<_> = manifests().iter().map(|(name, _)| path("kubernetes").join(name)).collect();
    assert!(files.len() >= 8, "{files:?}");
    for version in VERSIONS {
        let checker = packages::checkers().join("kubernetes-validate");
        content(Command::new(checker).args(["--strict", "-k", version]).args(&files));
    }
}

#[test]
fn the_kustomization_names_every_file_there_is() {
    let named: BTreeSet<String> = manifests().into_iter().map(|(name, _)| name).collect();
    let folder = std::fs::read_dir(path("kubernetes")).expect("a folder");
    let there: BTreeSet<String> = folder
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("plain names"))
        .filter(|name| is_yaml(name) && name != "kustomization.yaml")
        .collect();
    assert_eq!(named, there);
    let generator = &yaml("fleet/kustomization.yaml")["configMapGenerator"];
    assert_eq!(generator.as_array().map(Vec::len), Some(1));
    for file in texts(&generator[0]["files"]) {
        assert!(path("fleet").join(file).is_file(), "{file}");
    }
    assert!(texts(&kustomization()["resources"]).contains(&"../fleet"));
}

#[test]
fn pods_have_the_secrets_and_files_that_the_deployment_file_names() {
    let given = names_to_fill_in("kubernetes/secret.env.example");
    let deployment = text("fleet/overfall.yaml");
    for workload in workloads() {
        let pod = &workload["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let mut names = BTreeSet::new();
        for variable in container["env"].as_array().expect("variables") {
            let source = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!((&source["name"], &source["key"]), (&Value::from("overfall"), &variable["name"]));
            names.insert(variable["name"].as_str().expect("a name").to_owned());
        }
        assert!(names.iter().all(|name| given.contains(name)), "{names:?}");
        let all: BTreeSet<String> =
            given.iter().filter(|name| deployment.contains(&format!("{{env: {name}}}"))).cloned().collect();
        let stores = all.iter().filter(|name| name.ends_with("_URL")).cloned().collect();
        let is_gateway = workload["kind"] == "StatefulSet";
        assert_eq!(names, if is_gateway { all } else { stores });
        let files =
            pod["volumes"].as_array().expect("volumes").iter().find(|volume| volume["name"] == "files");
        let told = files.expect("the deployment file").to_string();
        let generated = &yaml("fleet/kustomization.yaml")["configMapGenerator"][0]["name"];
        assert!(told.contains(&format!("{{\"name\":{generated}}}")), "{told}");
        assert_eq!(told.contains("overfall-policy"), is_gateway, "{told}");
    }
}

#[test]
fn pods_have_no_privileges() {
    let dockerfile = std::fs::read_to_string(workspace::root().join("Dockerfile")).expect("a Dockerfile");
    for workload in workloads() {
        let pod = &workload["spec"]["template"]["spec"];
        let id = pod["securityContext"]["runAsUser"].as_u64().expect("a user");
        assert!(dockerfile.contains(&format!("USER {id}:{id}")), "the image's files are somebody else's");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(texts(&container["securityContext"]["capabilities"]["drop"]), ["ALL"]);
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
}

#[test]
fn a_gateway_keeps_its_folder_is_probed_and_has_time_to_end() {
    let [gateway] = of_kind("StatefulSet").try_into().expect("one");
    let pod = &gateway["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let claim = &gateway["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    let data = &yaml("fleet/overfall.yaml")["stores"]["data"];
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    assert!(mounts.iter().any(|mount| mount["name"] == *claim && mount["mountPath"] == *data));
    assert_eq!(gateway["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain");
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        let asked = &container[probe]["httpGet"];
        assert_eq!((&asked["path"], &asked["port"]), (&Value::from(path), &Value::from("admin")), "{probe}");
    }
    let before: u64 =
        container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().expect("a time").parse().expect("s");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a time");
    assert!(grace >= before + gateway_ends_within(), "{grace}");
}

#[test]
fn everything_that_looks_for_pods_finds_them() {
    let workloads = workloads();
    for workload in &workloads {
        assert!(finds(&workload["spec"]["selector"]["matchLabels"], labels_of(workload)));
    }
    let found = |selector: &Value| {
        workloads.iter().filter(|workload| finds(selector, labels_of(workload))).collect::<Vec<_>>()
    };
    let budgets = of_kind("PodDisruptionBudget");
    assert_eq!(budgets.len(), workloads.len());
    for budget in budgets {
        assert_eq!(found(&budget["spec"]["selector"]["matchLabels"]).len(), 1, "{budget}");
    }
    for service in of_kind("Service") {
        let [workload] = found(&service["spec"]["selector"]).try_into().expect("one");
        let ports = &workload["spec"]["template"]["spec"]["containers"][0]["ports"];
        for port in service["spec"]["ports"].as_array().expect("ports") {
            let ports = ports.as_array().expect("ports");
            assert!(ports.iter().any(|named| named["name"] == port["targetPort"]), "{port}");
        }
    }
    let [network] = of_kind("NetworkPolicy").try_into().expect("one");
    assert_eq!(found(&network["spec"]["podSelector"]["matchLabels"]).len(), workloads.len());
    let [gateway] = of_kind("StatefulSet").try_into().expect("one");
    let each = &gateway["spec"]["serviceName"];
    assert!(of_kind("Service").iter().any(|service| service["metadata"]["name"] == *each));
}

#[test]
fn workers_are_scaled_by_what_the_adapter_knows() {
    let [scaler] = of_kind("HorizontalPodAutoscaler").try_into().expect("one");
    let target = &scaler["spec"]["scaleTargetRef"];
    let worker = workloads().into_iter().find(|workload| workload["metadata"]["name"] == target["name"]);
    let worker = worker.expect("there is what is scaled");
    assert_eq!(worker["kind"], target["kind"]);
    assert!(worker["spec"].get("replicas").is_none(), "two would decide how many there are");
    let rules = yaml("prometheus/adapter.yaml");
    let known: BTreeSet<&str> = rules["externalRules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| rule["name"]["as"].as_str().expect("a name"))
        .collect();
    let asked: BTreeSet<&str> = scaler["spec"]["metrics"]
        .as_array()
        .expect("metrics")
        .iter()
        .map(|metric| metric["external"]["metric"]["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(asked, known);
}
