"""`ellav launch gke`: what is generated, against the schemas of Kubernetes and JobSet, and what is asked of kubectl."""

import copy
import json
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launch import cli
from launch.clouds.gke_manifest import CONTAINER, PROGRAM, WORKERS
from tests.launch.stand_ins import StandIns, tool

SCHEMAS = Path(__file__).with_name("schemas")
KUBERNETES = "1.35"


def _launch(*arguments):
    return cli.main(["launch", "gke", *arguments])


def _arguments(hardware="v5p-256", experiment="librispeech_pod.gar", data=("gs://b/ls",)):
    words = [experiment, "--workdir", "gs://b/w", "--image", "r/ellav:1", "--hardware", hardware]
    return [*words, *(word for one in data for word in ("--data", one))]


@pytest.fixture
def generate(capsys, tmp_path, monkeypatch):
    """`generate(*arguments)`: the texts of the files of a dry run, by name."""
    monkeypatch.chdir(tmp_path)

    def files(*arguments):
        assert _launch(*arguments, "--dry-run") == 0
        out = capsys.readouterr().out.partition("# checked first")[0]
        _, *parts = re.split(r"^# launches/[^/\n]+/(\S+)\n", out, flags=re.MULTILINE)
        return {name: text.removesuffix("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}

    return files


@pytest.fixture(scope="module")
def jobset_schema():
    """JobSet's own, in which a name that it does not have is an error; of Kubernetes' types nothing is asked."""
    schema = json.loads((SCHEMAS / "jobset.v1alpha2.json").read_text())

    def strict(value):
        if isinstance(value, dict):
            if value.get("$ref", "").startswith("https://"):
                return {}
            closed = {"additionalProperties": False} if "properties" in value and "type" in value else {}
            return {name: strict(part) for name, part in value.items()} | closed
        return [strict(part) for part in value] if isinstance(value, list) else value

    return {"$ref": "#/definitions/jobset.v1alpha2.JobSet"} | strict(schema)


def _check(text, jobset_schema):
    """The JobSet of a manifest, both documents having passed their schemas."""
    config_map, jobset = yaml.safe_load_all(text)
    kubernetes_validate.validate(config_map, KUBERNETES, strict=True)
    jsonschema.validate(jobset, jobset_schema)
    for replicated in jobset["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **replicated["template"]}
        kubernetes_validate.validate(job, KUBERNETES, strict=True)
    return jobset


def _pod(jobset):
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


# Labels and topologies as on Google's page "TPUs in GKE": machine type's chips, node pool's hosts.
@pytest.mark.parametrize(
    ("hardware", "label", "topology", "slices", "hosts", "chips"),
    [
        ("v5e-8", "tpu-v5-lite-podslice", "2x4", 1, 1, 8),
        ("v5e-64", "tpu-v5-lite-podslice", "8x8", 1, 16, 4),
        ("2xv5e-16", "tpu-v5-lite-podslice", "4x4", 2, 4, 4),
        ("v5p-8", "tpu-v5p-slice", "2x2x1", 1, 1, 4),
        ("v5p-256", "tpu-v5p-slice", "4x4x8", 1, 32, 4),
        ("2xv5p-64", "tpu-v5p-slice", "2x4x4", 2, 8, 4),
        ("v6e-16", "tpu-v6e-slice", "4x4", 1, 4, 4),
        ("4xv6e-64", "tpu-v6e-slice", "8x8", 4, 16, 4),
    ],
)
def test_a_jobset_for_tpus_asks_for_their_nodes(
    generate, jobset_schema, hardware, label, topology, slices, hosts, chips
):
    jobset = _check(generate(*_arguments(hardware))["jobset.yaml"], jobset_schema)
    [workers] = jobset["spec"]["replicatedJobs"]
    assert workers["replicas"] == slices
    job = workers["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (hosts, hosts, "Indexed")
    pod = _pod(jobset)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
    }
    [container] = pod["containers"]
    assert container["resources"] == {"limits": {"google.com/tpu": chips}}
    assert ("--distributed" in container["args"]) == (slices * hosts > 1)
    # A node pool of several hosts is one slice and takes one job; hosts that are slices of their own share a pool.
    exclusive = jobset["metadata"].get("annotations", {})
    assert (exclusive == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}) == (
        hosts > 1
    )


def test_a_jobset_for_gpus_lets_the_first_node_be_found(generate, jobset_schema):
    arguments = _arguments("h100-16", "librispeech.gar")
    jobset = _check(generate(*arguments, "--spot", "--queue", "team", "--name", "trial")["jobset.yaml"], jobset_schema)
    assert jobset["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    pod = _pod(jobset)
    assert pod["nodeSelector"]["cloud.google.com/gke-accelerator"] == "nvidia-h100-80gb"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert {toleration["key"] for toleration in pod["tolerations"]} == {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    [container] = pod["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    words = container["args"]
    # The name that JobSet gives the first pod of its first job: see spec.network of its reference.
    assert words[words.index("--coordinator") + 1] == f"trial-{WORKERS}-0-0.trial:8476"
    assert words[words.index("--num-processes") + 1] == "2"
    variable = re.fullmatch(r"\$\((\w+)\)", words[words.index("--process-id") + 1])[1]
    [index] = [one["valueFrom"] for one in container["env"] if one["name"] == variable]
    assert index["fieldRef"]["fieldPath"] == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_buckets_and_exports_are_mounted_where_training_looks(generate, jobset_schema):
    data = ("gs://b/ls:0.7", "nfs://10.0.0.2/vol1/lh:0.3")
    jobset = _check(generate(*_arguments(data=data))["jobset.yaml"], jobset_schema)
    pod = _pod(jobset)
    [container] = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    places = {place["mountPath"]: place for place in container["volumeMounts"]}
    assert set(volumes) == {place["name"] for place in places.values()}
    assert container["command"] == [PROGRAM]
    words = container["args"]
    directories = [words[i + 1] for i, word in enumerate(words) if word in ("--data", "--workdir")]
    assert directories == ["/mnt/ellav/data-0/ls:0.7", "/mnt/ellav/data-1/lh:0.3", "/mnt/ellav/work/w"]
    work = volumes[places["/mnt/ellav/work"]["name"]]["csi"]
    assert (work["driver"], work["readOnly"]) == ("gcsfuse.csi.storage.gke.io", False)
    # Directories that hold checkpoints are renamed, and every host must see at once what another wrote.
    options = work["volumeAttributes"]["mountOptions"].split(",")
    assert "metadata-cache:ttl-secs:0" in options
    assert any(re.fullmatch(r"file-system:rename-dir-limit:[1-9]\d+", option) for option in options)
    assert volumes[places["/mnt/ellav/data-0"]["name"]]["csi"]["readOnly"]
    assert volumes[places["/mnt/ellav/data-1"]["name"]]["nfs"] == {
        "server": "10.0.0.2",
        "path": "/vol1",
        "readOnly": True,
    }
    annotations = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["gke-gcsfuse/volumes"] == "true"


def test_failures_start_again_and_bad_input_does_not(generate, jobset_schema):
    jobset = _check(generate(*_arguments(), "--restarts", "7", "--grace-seconds", "90")["jobset.yaml"], jobset_schema)
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    [rule] = policy["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    [exit_rule] = job["podFailurePolicy"]["rules"]
    assert exit_rule["onExitCodes"] == {"containerName": CONTAINER, "operator": "In", "values": [2]}
    assert job["backoffLimit"] == 0
    assert (_pod(jobset)["restartPolicy"], _pod(jobset)["terminationGracePeriodSeconds"]) == ("Never", 90)


def test_variables_are_written_and_secrets_are_named_only(generate, jobset_schema, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "sesame")
    files = generate(*_arguments(), "--env", "NOTE=$(HOME) is kept", "--secret", "WANDB_API_KEY")
    assert "sesame" not in "".join(files.values())
    [container] = _pod(_check(files["jobset.yaml"], jobset_schema))["containers"]
    note, secret = container["env"]
    # Kubernetes would put a variable's value in for $(HOME); $$( stands for $(.
    assert note == {"name": "NOTE", "value": "$$(HOME) is kept"}
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "ellav", "key": "WANDB_API_KEY"}}
    assert json.loads(files["job.json"])["secrets"] == ["WANDB_API_KEY"]


def test_an_experiments_file_goes_along_in_the_config_map(generate, jobset_schema, experiments):
    files = generate(*_arguments("v5e-1", f"{experiments}:gar"))
    config_map, _ = yaml.safe_load_all(files["jobset.yaml"])
    assert config_map["data"][experiments.name] == experiments.read_text()
    [container] = _pod(_check(files["jobset.yaml"], jobset_schema))["containers"]
    [place] = [one for one in container["volumeMounts"] if one["name"] == "along"]
    assert container["args"][1] == f"{place['mountPath']}/{experiments.name}:gar"


def test_the_schemas_tell_mistakes(generate, jobset_schema):
    config_map, jobset = yaml.safe_load_all(generate(*_arguments())["jobset.yaml"])
    wrong = copy.deepcopy(jobset)
    wrong["spec"]["failurePolicy"]["maxRestart"] = 1
    with pytest.raises(jsonschema.ValidationError, match="maxRestart"):
        jsonschema.validate(wrong, jobset_schema)
    wrong = copy.deepcopy(jobset)
    _pod(wrong)["containers"][0]["volumeMounts"][0]["mountpath"] = "/x"
    with pytest.raises(jsonschema.ValidationError, match="mountpath"):
        _check(yaml.safe_dump_all([config_map, wrong]), jobset_schema)


def test_generated_files_pass_their_lint_tools(generate, tmp_path):
    files = generate(*_arguments("2xv5p-256"), "--cluster", "p/us-central1-a/c", "--env", "NOTE=it's a note")
    assert set(files) == {"job.json", "jobset.yaml", "xpk.sh"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    rules = "{extends: default, rules: {line-length: disable}}"
    subprocess.run([tool("yamllint"), "--strict", "--config-data", rules, tmp_path / "jobset.yaml"], check=True)
    subprocess.run(["bash", "-n", tmp_path / "xpk.sh"], check=True)
    subprocess.run([tool("shellcheck"), tmp_path / "xpk.sh"], check=True)


def test_xpk_is_asked_for_the_same_job(generate, tmp_path, monkeypatch):
    files = generate(
        *_arguments("2xv5e-16"), "--cluster", "p/us-central1-a/c", "--restarts", "7", "--env", "NOTE=two words"
    )
    programs = StandIns(tmp_path / "bin")
    programs.add("xpk")
    (tmp_path / "xpk.sh").write_text(files["xpk.sh"])
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    subprocess.run(["bash", tmp_path / "xpk.sh"], check=True)
    *attached, create = programs.calls
    _, jobset = yaml.safe_load_all(files["jobset.yaml"])
    [container] = _pod(jobset)["containers"]

    def value(words, option):
        return words[words.index(option) + 1]

    assert value(create, "--tpu-type") == "v5litepod-16"
    assert (value(create, "--num-slices"), value(create, "--max-restarts")) == ("2", "7")
    assert shlex.split(value(create, "--command")) == container["command"] + container["args"]
    assert value(create, "--env") == "NOTE=two words"
    assert value(create, "--docker-image") == "r/ellav:1"
    points = {value(words, "--mount-point"): value(words, "--readonly") for words in attached}
    assert points == {"/mnt/ellav/work": "false", "/mnt/ellav/data-0": "true"}
    assert [value(words, "attach") for words in attached] == [
        create[i + 1] for i, word in enumerate(create) if word == "--storage"
    ]


def test_a_dry_run_prints_the_very_files_and_commands_that_then_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = StandIns(tmp_path / "bin")
    programs.add("kubectl")
    programs.add("gcloud")
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    arguments = [*_arguments(), "--cluster", "p/us-central1/c", "--secret", "WANDB_API_KEY"]
    assert _launch(*arguments, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert programs.calls == []
    assert _launch(*arguments) == 0
    for path in (tmp_path / "launches/librispeech-pod-gar").iterdir():
        assert f"# launches/librispeech-pod-gar/{path.name}\n{path.read_text()}\n" in printed
    ran = [shlex.join(call) for call in programs.calls]
    assert printed.partition("# checked first\n")[2].replace("\n# then run\n", "").split("\n")[: len(ran)] == ran
    assert programs.calls[-1][:3] == ["kubectl", "--context", "gke_p_us-central1_c"]
    assert programs.calls[-1][-3:] == ["apply", "--filename", "launches/librispeech-pod-gar/jobset.yaml"]
    # The description lies in the work directory, and by getting there shows that it can be written.
    copied = [
        "gcloud",
        "storage",
        "cp",
        "launches/librispeech-pod-gar/job.json",
        "gs://b/w/launches/librispeech-pod-gar.json",
    ]
    assert copied in programs.calls


@pytest.mark.parametrize(
    ("program", "answer", "said"),
    [
        ("kubectl", "if 'customresourcedefinition' in sys.argv: sys.exit(1)", "has no JobSet"),
        ("kubectl", "if 'serviceaccount' in sys.argv: sys.exit(1)", "--service-account default: there is none"),
        ("kubectl", "if 'jobset' in sys.argv: print('jobset/x')", "a job librispeech-pod-gar is in the cluster"),
        ("kubectl", "if 'secret' in sys.argv: sys.exit(1)", "there is no secret ellav"),
        ("gcloud", "if 'ls' in sys.argv: sys.exit(1)", "no data set of `ellav prepare` there"),
        (
            "gcloud",
            "if 'cp' in sys.argv: sys.exit('ERROR: (x) HTTPError 403')",
            "can't be written (gcloud: ERROR: (x) HTTP",
        ),
    ],
)
def test_what_would_fail_is_told_before_anything_is_submitted(program, answer, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = StandIns(tmp_path / "bin")
    for name in ("kubectl", "gcloud"):
        programs.add(name, answer if name == program else "")
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    assert _launch(*_arguments(), "--secret", "WANDB_API_KEY") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not any("apply" in call for call in programs.calls)
