/** @file The public interface: what the commands do, as typed functions. */
export { DiffusionPipeError, type ErrorKind, type ErrorParts } from './core/errors.ts';
export { type RandomStream, randomStream } from './core/random.ts';
export { type DType, type Shape, type Tensor, tensor, toNumbers, zeros } from './core/tensor.ts';
export { trainingChain } from './diffusion/objective.ts';
export {
	createSampler,
	parseSchedulerConfig,
	type Sampler,
	type SchedulerConfig,
	samplerConfig,
	trainingProcess,
} from './diffusion/samplers/index.ts';
export { createLocalEngine, type IterationResult, type LocalEngine } from './engine/local/engine.ts';
export { type Forward, type ForwardOptions, openForward } from './engine/local/forward.ts';
export { type MeasuredProfileOptions, measureProfile } from './engine/local/profile.ts';
export { type SimulationCosts, simulate } from './engine/simulate/simulate.ts';
export {
	type CascadeDrawing,
	type CascadeImages,
	type CascadePipeline,
	cascadeSamples,
	createGenerator,
	createPipeline,
	drawCascade,
	type Generated,
	type GenerateEvent,
	type GenerateOptions,
	type Generator,
	openPipeline,
	type Pipeline,
	type PipelineOptions,
	pipelineClasses,
	type SampleCascadeOptions,
	type SampleEvent,
	type SampleOptions,
	sampleCascade,
	sampleToFile,
	trainingSamples,
} from './generate/index.ts';
export { createBuilder, type GraphBuilder } from './graph/builder.ts';
export { checkGraph } from './graph/check.ts';
export { type Differentiated, type DifferentiateOptions, differentiate, gradients } from './graph/differentiate.ts';
export { evaluateGraph } from './graph/evaluate.ts';
export { macsOf } from './graph/macs.ts';
export { readOnnx, writeOnnx } from './graph/onnx/index.ts';
export { simplify } from './graph/passes/index.ts';
export { graphToText } from './graph/text.ts';
export type { Graph, Node, Value, ValueName } from './graph/types.ts';
export { type HubEvent, resolveModel } from './io/hub.ts';
export { type Lora, mergedWeights, readLora, writeLora } from './io/lora-file.ts';
export { openSafetensors, readSafetensors, writeSafetensors } from './io/safetensors.ts';
export { openTokenizer, type Tokenizer } from './io/tokenizer.ts';
export { createEncoder, type Encoder } from './models/encoders.ts';
export { createDenoiser, type Denoiser } from './models/index.ts';
export { type Chain, type Layer, liveAt, stageGraph, traceChain } from './nn/chain.ts';
export { chainToOnnx } from './nn/export.ts';
export { chainFromGraph } from './nn/import.ts';
export { adaptable, chooseModules, type LoraOptions, loraChain } from './nn/lora.ts';
export { type Accelerator, accelerators } from './plan/analytic/accelerators.ts';
export { namedJob, namedJobs } from './plan/analytic/named-jobs.ts';
export { type AnalyticProfileOptions, clusterOf, profileOf } from './plan/analytic/profile.ts';
export { readCluster } from './plan/cluster/read.ts';
export type { Cluster } from './plan/cluster/types.ts';
export { type FillProblem, type FillResult, fillBubbles } from './plan/fill/index.ts';
export { type Partition, partitionChain } from './plan/partition/chain.ts';
export { simulatePipeline } from './plan/pipeline/simulate.ts';
export { planDocument, readPlan } from './plan/plan-json.ts';
export { correctProfile, type MeasuredTimeline } from './plan/profile/correct.ts';
export { readProfile } from './plan/profile/read.ts';
export type { Profile } from './plan/profile/types.ts';
export { placeSchedule, scheduleByName } from './plan/schedules/index.ts';
export { formatSchedule, formatScheduleGrid, parseSchedule } from './plan/schedules/text.ts';
export type { PlacedSchedule, Schedule } from './plan/schedules/types.ts';
export { searchPlan } from './plan/search/index.ts';
export { simulatePlan, walkPlan } from './plan/search/simulate-plan.ts';
export type { PlanAnswer, SearchOptions, SearchResult } from './plan/search/types.ts';
export type { Plan } from './plan/types.ts';
export { adamwGraph, adamwHyper } from './program/adamw.ts';
export { toChromeTrace } from './program/chrome-trace.ts';
export { type Comparison, compareTimelines } from './program/compare.ts';
export { type FilledProgram, type FillLayout, lowerFilled } from './program/fill/lower.ts';
export {
	type Compiled,
	type CompiledPipelines,
	lowerForward,
	lowerPipelines,
	lowerPlan,
	lowerTraining,
	type PipelineLayout,
	type PlannedBackbone,
	type PlannedTraining,
	type TrainedBackbone,
	type TrainingLayout,
} from './program/lower.ts';
export { readRecord, type StepRecord } from './program/step-record.ts';
export { formatProgram } from './program/text.ts';
export type { Timeline } from './program/timeline.ts';
export { renderTimeline } from './program/timeline-text.ts';
export type { Instruction, Program } from './program/types.ts';
export { verifyProgram } from './program/verify.ts';
export { type AutoencoderObjective, autoencoderTrainingChain, trainAutoencoder } from './train/autoencoder.ts';
export { type BytePairs, learnBytePairs, writeClipTokenizer } from './train/bpe.ts';
export { type CacheCounts, type DiskCache, type DiskCacheOptions, openDiskCache } from './train/cache/disk-cache.ts';
export { type CascadeConfig, readCascadeConfig } from './train/cascade/config.ts';
export type {
	CascadeDrawer,
	CascadeEvent,
	CascadeOptions,
	CascadeResult,
} from './train/cascade/events.ts';
export { type Cascade, type CascadeModels, createCascade } from './train/cascade/models.ts';
export { trainCascade } from './train/cascade/trainer.ts';
export { readSessionConfig, readTrainConfig, type TrainConfig } from './train/config.ts';
export { type ContrastiveConfig, contrastiveTrainingChain, splitTowers, trainContrastive } from './train/contrastive.ts';
export { type Evaluated, type Evaluation, openEvaluation } from './train/evaluation.ts';
export type { TrainEvent, TrainResult } from './train/events.ts';
export { type FitOptions, type FittedWeights, halfWeights } from './train/fit.ts';
export { meanPsnr, retrievalRate } from './train/quality.ts';
export { type TrainOptions, trainModel } from './train/trainer.ts';
