/** @file Lowering: from cut chains, schedules and replicas to one static program per device. */
export { bankResidents } from './lower/banks.ts';
export type { Compiled } from './lower/compiled.ts';
export { type ForwardLayout, lowerForward } from './lower/forward.ts';
export type { PipelineLayout, TrainedBackbone } from './lower/job.ts';
export { type CompiledPipelines, lowerPipelines } from './lower/pipeline.ts';
export { lowerPlan, type PlannedBackbone, type PlannedTraining } from './lower/plan.ts';
export { stageRanges } from './lower/ranges.ts';
export { peakBytes, signatureOf } from './lower/signature.ts';
export { lowerTraining, type TrainingLayout } from './lower/training.ts';
