/** @file Entry of a device thread: builds its device, then runs sections as messages come. */
import { parentPort, workerData } from 'node:worker_threads';
import { packError } from '../../core/packed-error.ts';
import { createDevice, type Device } from './device.ts';
import type { DeviceSetup, FromDevice, ToDevice } from './protocol.ts';
import { stop } from './shared.ts';

const setup = workerData as DeviceSetup;
const port = parentPort!;
const say = (message: FromDevice, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

function fail(error: unknown): void {
	const secondary = error instanceof Error && error.name === 'Stopped';
	stop(setup.control);
	say({ kind: 'failed', error: packError(error, `device ${setup.device.device}`), secondary });
}

let device: Device | undefined;
try {
	device = createDevice(setup);
	say({ kind: 'ready' });
} catch (error) {
	fail(error);
}

port.on('message', (message: ToDevice) => {
	if (message.kind === 'close') {
		device?.release();
		port.close();
		return;
	}
	if (!device) return;
	try {
		const { fetched, spans, held, values } = device.run(message);
		const transfer = [...fetched.map((f) => f.data), spans.buffer as ArrayBuffer, held.buffer as ArrayBuffer];
		say({ kind: 'done', fetched, spans, held, values }, transfer);
	} catch (error) {
		fail(error);
	}
});
