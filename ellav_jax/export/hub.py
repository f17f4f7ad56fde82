"""A folder that was exported → a repository on the Hugging Face Hub, or whatever HF_ENDPOINT names."""

from pathlib import Path

from ellav_jax.errors import InputError, RunError


def push(folder: Path, repo: str, private: bool) -> str:
    """Makes the model repository `repo` ("owner/name") where there is none, and uploads `folder` to it. → URL of the commit.

    Files of the repository that `folder` doesn't hold stay. The token is huggingface_hub's: HF_TOKEN, or what
    `hf auth login` keeps. private: of a repository that is made; one that exists stays what it is.
    Raises InputError without huggingface_hub, folder, or token, and where `repo` is no such name or the hub refuses it
    (401, 403, 404); RunError where the hub can't be reached or fails.
    """
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
    except ImportError:
        raise InputError("a push needs huggingface_hub: pip install 'ellav-jax[torch]'") from None
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder to push")
    api = HfApi()
    if get_token() is None:
        raise InputError(f"no token for {api.endpoint}: set HF_TOKEN to one that may write, or run `hf auth login`")
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload by ellav export")
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no name of a repository, expected OWNER/NAME ({_line(error)})") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            raise InputError(
                f"{api.endpoint} refuses {repo} ({status}: {error.server_message or _line(error)}); expected an owner "
                "that the token may write to: `hf auth whoami` tells whose it is"
            ) from None
        raise RunError(f"{api.endpoint} failed on {repo}: {_line(error)}; push again, what arrived is kept") from None
    # Connections, time-outs, answers that no hub gives, and uploads of large files have no common class below these.
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise RunError(
            f"{folder} was not pushed to {api.endpoint}/{repo}: {_line(error)}; push again, what arrived is kept"
        ) from None
    return str(commit.commit_url)


def _line(error: BaseException) -> str:
    """An error's message and its cause's, on one line."""
    causes = [error, *([error.__cause__] if error.__cause__ is not None else [])]
    return " ".join(": ".join(str(one) or type(one).__name__ for one in causes).split())
