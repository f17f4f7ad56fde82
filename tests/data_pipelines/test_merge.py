from data_pipelines import merge
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from ellav_jax.frontend.frontend import default_frontend


def test_more_shards_than_may_be_open_give_the_same_bytes_in_several_passes(
    tmp_path, prepared_bundled, small_corpus, codec_facts, monkeypatch
):
    monkeypatch.setattr(merge, "_OPEN_SHARDS", 3)
    config = PrepareConfig(shards=2, group_size=8)
    prepare(small_corpus, tmp_path / "out", codec_facts, default_frontend(), config, LocalEngine(2))
    names = sorted(path.name for path in prepared_bundled.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (prepared_bundled / name).read_bytes()
