"""Counts in programs written out by hand, in the compiler's notation."""

from ellav_jax.planning.program_text import Collective, read_program

PROGRAM = """HloModule jit_train, is_scheduled=true

%add.1 (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y), backend_config={"estimated_cycles":"7"}
}

%all-reduce-scatter.3 (param: f32[8,64]) -> f32[1,64] {
  %param = f32[8,64]{1,0} parameter(0)
  %all-reduce.9 = f32[8,64]{1,0:T(8,128)} all-reduce(%param), channel_id=4, to_apply=%add.1
  ROOT %slice = f32[1,64]{1,0} dynamic-slice(%all-reduce.9, %zero)
}

%body.2 (arg: (s32[], bf16[16,64])) -> (s32[], bf16[16,64]) {
  %all-gather.1 = bf16[16,1024]{1,0:T(8,128)(2,1)} all-gather(%piece), channel_id=1, dimensions={1}
  %fusion.5 = bf16[16,64]{1,0} fusion(%all-gather.1), kind=kOutput, calls=%fused, backend_config={"estimated_cycles":"1000"}
  %fusion.6 = f32[1,64]{1,0} fusion(%grad), kind=kCustom, calls=%all-reduce-scatter.3
}

%condition.2 (arg: (s32[], bf16[16,64])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(12)
  %index = s32[] get-tuple-element(%arg), index=0
  ROOT %lt = pred[]{:T(512)} compare(%index, %constant.7), direction=LT
}

ENTRY %main.4 (state: f32[64]) -> f32[64] {
  %while.1 = (s32[], bf16[16,64]) while(%tuple), condition=%condition.2, body=%body.2
  %all-reduce.1 = (f32[64]{0:T(128)}, bf16[32]{0}) all-reduce(%a, %b), channel_id=2, to_apply=%add.1
  %ags = (f32[4]{0}, f32[64]{0}) all-gather-start(%c), channel_id=3, dimensions={0}
  %agd = f32[64]{0} all-gather-done(%ags)
  ROOT %fusion.9 = f32[64]{0} fusion(%all-reduce.1), kind=kLoop, calls=%fused.1, backend_config={"estimated_cycles":"50"}
}
"""


def test_collectives_of_a_loop_count_as_often_as_it_turns():
    assert read_program(PROGRAM).collectives == (
        Collective("all-gather", 12 + 1, 12 * 16 * 1024 * 2 + 64 * 4),
        Collective("reduce-scatter", 12, 12 * 8 * 64 * 4),
        Collective("all-reduce", 1, 64 * 4 + 32 * 2),
    )


def test_cycles_of_a_loop_count_as_often_as_it_turns():
    # The sum's 7 cycles belong to the two kinds of reductions that call it: 12 turns and once.
    assert read_program(PROGRAM).cycles == 12 * 1000 + 50 + 7 * 13


def test_a_loop_whose_turns_are_not_written_counts_once():
    unknown = PROGRAM.replace("constant(12)", "parameter(1)")
    assert read_program(unknown).cycles == 1000 + 50 + 7 * 2
    otherwise = PROGRAM.replace("direction=LT", "direction=NE")
    assert read_program(otherwise).cycles == 1000 + 50 + 7 * 2


def test_loops_are_seen():
    assert read_program(PROGRAM).loops
    assert not read_program(PROGRAM.replace(" while(", " call(")).loops


def test_a_program_without_collectives_has_none():
    assert read_program("ENTRY %main (x: f32[2]) -> f32[2] {\n ROOT %y = f32[2]{0} negate(%x)\n}").collectives == ()
