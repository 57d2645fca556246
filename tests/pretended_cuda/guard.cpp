// Makes a build of PyTorch without CUDA believe that there is a device, as far as FakeTensorMode asks. No kernel runs.
//
// Three questions have to be answered: which accelerator there is (the autograd engine asks for its streams), whether
// CUDA's hooks are there (generators and pinned memory ask), and who guards the device (every operation asks).
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <memory>
#include <optional>

#define EXPORTED __attribute__((visibility("default")))

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

// Loaded first and globally, this definition is taken instead of PyTorch's own.
namespace at::accelerator {
EXPORTED std::optional<DeviceType> getAccelerator(bool /*checked*/) { return DeviceType::CUDA; }
}  // namespace at::accelerator

namespace {

const Device kOnly(DeviceType::CUDA, 0);

struct Guard final : c10::impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device getDevice() const override { return kOnly; }
  Device exchangeDevice(Device) const override { return kOnly; }
  Stream getStream(Device) const noexcept override { return Stream(Stream::DEFAULT, kOnly); }
  // The autograd engine records and awaits an event where a gradient passes from one device to another.
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return false; }
  DeviceIndex getCurrentDevice() const override { return 0; }
};

}  // namespace

// Whether PyTorch now sees the hooks; false where it had asked for them before.
extern "C" EXPORTED bool pretend_cuda() {
  static Guard guard;
  auto& slot = c10::impl::device_guard_impl_registry[static_cast<size_t>(DeviceType::CUDA)];
  if (slot.load() == nullptr) slot.store(&guard);
  at::CUDAHooksRegistry()->Register("CUDAHooks", [](at::CUDAHooksArgs args) {
    return std::unique_ptr<at::CUDAHooksInterface>(new Hooks(args));
  });
  return at::detail::getCUDAHooks().hasCUDA();
}
