// Records the C++ signature of every kernel, as schema types, when its library is loaded.
// The stable ABI passes arguments by position as raw 64-bit values and compares nothing: a schema that says float for a
// C++ int64_t yields garbage. native.py reads this list through the C functions below, and a test compares it with
// table.py. Torch-free; each library (CPU, CUDA) has a list of its own.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace spectral {

template <class T> struct TypeName;  // undefined on purpose: an argument type that is not listed does not compile
#define SPECTRAL_TYPE_NAME(type, name)         \
  template <> struct TypeName<type> {          \
    static std::string text() { return name; } \
  }
SPECTRAL_TYPE_NAME(int64_t, "int");
SPECTRAL_TYPE_NAME(double, "float");
SPECTRAL_TYPE_NAME(bool, "bool");
SPECTRAL_TYPE_NAME(std::string, "str");
SPECTRAL_TYPE_NAME(void, "");
template <class T> struct TypeName<const T&> : TypeName<T> {};
template <class T> struct TypeName<std::optional<T>> {
  static std::string text() { return TypeName<T>::text() + "?"; }
};
template <class T> struct TypeName<std::vector<T>> {
  static std::string text() { return TypeName<T>::text() + "[]"; }
};

template <class... R> struct TypeName<std::tuple<R...>> {
  static std::string text() {
    std::string text;
    ((text.append(text.empty() ? "" : ",").append(TypeName<R>::text())), ...);
    return text;
  }
};

// void f(const Tensor&, std::optional<Tensor>, int64_t) -> "Tensor,Tensor?,int->"
template <class R, class... A> std::string types_of(R (*)(A...)) {
  std::string text;
  ((text.append(text.empty() ? "" : ",").append(TypeName<A>::text())), ...);
  return text.append("->").append(TypeName<R>::text());
}

struct Signature {
  std::string name, types;
};

inline std::vector<Signature>& signatures() {
  static std::vector<Signature> list;
  return list;
}

template <class F> void record_signature(const char* name, F* function) {
  signatures().push_back({name, types_of(function)});
}

}  // namespace spectral

// `used` keeps an inline function that nothing calls; `visibility` exports it from a library built with hidden symbols.
#define SPECTRAL_EXPORT extern "C" __attribute__((visibility("default"), used))

SPECTRAL_EXPORT inline int spectral_signature_count() { return static_cast<int>(spectral::signatures().size()); }
SPECTRAL_EXPORT inline const char* spectral_signature_name(int i) { return spectral::signatures()[i].name.c_str(); }
SPECTRAL_EXPORT inline const char* spectral_signature_types(int i) { return spectral::signatures()[i].types.c_str(); }
